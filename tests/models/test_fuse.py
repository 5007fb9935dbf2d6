"""Fused networks compute what they did; resizing by products is torch's."""

import pytest
import torch
from torch.nn import functional as F

from tcig.models.fuse import fuse_batchnorm, resize
from tcig.models.segmentation import miniature


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (23, 11)])
def test_resizing_by_products_is_torchs_both_ways(size, align_corners, antialias):
    images = torch.rand(2, 3, 9, 7, dtype=torch.float64, requires_grad=True)
    gradient = torch.rand(2, 3, *size, dtype=torch.float64)
    how = {"align_corners": align_corners, "antialias": antialias}
    found = resize(images, size, **how)
    expected = F.interpolate(images, size, mode="bilinear", **how)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(found, images, gradient),
        torch.autograd.grad(expected, images, gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_what_inference_made_serves_a_gradient():
    images = torch.rand(1, 1, 3, 5, requires_grad=True)
    with torch.inference_mode():
        resize(images, (31, 37))
    resize(images, (31, 37)).sum().backward()
    torch.testing.assert_close(images.grad.sum(), torch.tensor(31.0 * 37))


@pytest.mark.parametrize("name", ["guide", "judge"])
def test_a_fused_network_is_the_same_and_leaves_the_other_alone(name):
    network = miniature(name).module
    before = [type(part) for part in network.modules()]
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found, expected = fuse_batchnorm(network)(images), network(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(found.square().mean(), images),
        torch.autograd.grad(expected.square().mean(), images),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())
    assert [type(part) for part in network.modules()] == before
    code = fuse_batchnorm(network).code
    assert ("resize" in code) == (name == "guide")
    assert "mode = 'bilinear'" not in code
