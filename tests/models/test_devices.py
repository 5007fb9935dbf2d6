"""A profile's device and number format; fused networks, and resizing by products."""

import contextlib
from functools import cache

import numpy as np
import pytest
import torch
from fake_gpu import FakeGpu
from torch import nn
from torch.nn import functional as F

from tcig import cli
from tcig.data.emoji import FOLDER
from tcig.data.files import InputError
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts
from tcig.methods import base
from tcig.models import devices
from tcig.models.devices import (
    PLAIN,
    Compute,
    fuse_batchnorm,
    release,
    resize,
    set_tf32,
)
from tcig.models.diffusion import load_diffusion
from tcig.models.segmentation import miniature
from tcig.profiles import load_profile
from tcig.run.spec import prepare

MINI = "mini:stable-diffusion"
HALF = Compute(on="cpu", precision="bfloat16")


LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format


@pytest.mark.parametrize(
    ("on", "precision", "bf16", "dtype", "auto"),
    [
        ("cuda", "auto", True, torch.float16, LAST),
        ("mps", "auto", False, torch.float16, LAST),
        ("cpu", "auto", True, torch.bfloat16, CONTIGUOUS),
        ("cpu", "auto", False, torch.float32, LAST),
        ("cuda", "bfloat16", False, torch.bfloat16, LAST),
        ("cpu", "float32", True, torch.float32, LAST),
    ],
)
def test_precision_and_memory_format_by_device(on, precision, bf16, dtype, auto, monkeypatch):
    monkeypatch.setattr(devices, "has_bf16", lambda: bf16)
    for asked, expected in {"auto": auto, True: LAST, False: CONTIGUOUS}.items():
        compute = Compute(on=on, precision=precision, channels_last=asked)
        assert compute.memory_format is expected
    assert compute.device.type == on
    assert compute.dtype is dtype
    assert compute.arithmetic == str(dtype).removeprefix("torch.")
    assert Compute(on=on, precision=precision, tf32=True).arithmetic == f"{compute.arithmetic} tf32"


def test_auto_takes_the_gpu_that_there_is(monkeypatch):
    for cuda, mps, expected in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert PLAIN.device.type == expected


def test_stage_1_is_in_bfloat16_or_float32_never_float16():
    assert isinstance(Compute(precision="float16").autocast(), contextlib.nullcontext)
    assert isinstance(PLAIN.autocast(), contextlib.nullcontext)
    with HALF.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16


def test_a_run_has_its_profiles_tf32():
    profile = load_profile("smoke")
    try:
        for allowed, expected in [(True, "tf32"), (False, "ieee")]:
            compute = Compute(tf32=allowed)
            prepare("paste", profile.model_copy(update={"compute": compute}), None, "0" * 64)
            assert torch.backends.cuda.matmul.fp32_precision == expected
            assert torch.backends.cudnn.conv.fp32_precision == expected
    finally:
        set_tf32(False)


def test_networks_are_in_the_profiles_precision_and_latents_are_not():
    model = load_diffusion(MINI, HALF)
    assert {part.dtype for part in (model.unet, model.vae, model.text_encoder)} == {torch.bfloat16}
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = model.encode(images)
        decoded = model.decode(latents)
    assert latents.dtype is decoded.dtype is torch.float32
    plain = load_diffusion(MINI)
    with torch.no_grad():
        expected = plain.decode(plain.encode(images))
    assert (decoded - expected).abs().mean() < 0.02
    release()


ROWS = {
    "si": {"steps": 3},
    "tcig": {"first.iterations": 3, "first.cutouts": 4, "second.steps": 10},
}


@cache
def drawn(row, **compute):
    layouts = hash_order(build_layouts(FOLDER, Filter())[1])[:2]
    profile = load_profile("smoke").model_copy(update={"compute": Compute(on="cpu", **compute)})
    _, method = prepare(row, profile, FOLDER, "0" * 64, ROWS[row])
    images = method.generate(layouts, [1, 2])
    release()
    return np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.mark.parametrize("row", ["si", "tcig"])
def test_bfloat16_draws_nearly_the_same(row):
    difference = np.abs(drawn(row, precision="bfloat16") - drawn(row))
    assert 0 < difference.mean() < 8


@pytest.mark.parametrize(
    ("row", "setting"),
    [("si", "channels_last"), ("tcig", "channels_last"), ("si", "tiling"), ("tcig", "offload")],
)
def test_settings_for_speed_and_memory_keep_the_image(row, setting):
    assert np.abs(drawn(row, **{setting: True}) - drawn(row)).max() <= 2


def test_the_unets_are_what_is_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    for row in ("si", "tcig"):
        drawn(row, compile=True)
    assert compiled == ["UNet2DConditionModel"] * 2


def test_the_papers_profile_refuses_to_run_on_a_cpu_unless_told_to(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["run", "--profile", "paper", "--methods", "real", "--check"]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    for word in (torch.__version__, "CUDA", "driver", "TCIG_DEVICE=cpu"):
        assert word in said
    monkeypatch.setenv("TCIG_DEVICE", "cpu")
    assert cli.main(arguments) == 0
    assert load_profile("paper").compute.device.type == "cpu"
    monkeypatch.setenv("TCIG_DEVICE", "tpu")
    assert cli.main(arguments) == 2
    assert "'tpu'" in capsys.readouterr().err


def test_a_gpu_older_than_this_torchs_kernels_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90a", "compute_120"])
    for capability in ((7, 5), (12, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        PLAIN.check_device()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    with pytest.raises(InputError, match=r"Tesla V100 .* 7\.0, .* from 7\.5 on"):
        PLAIN.check_device()


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_noise_for_another_device_is_its_samples_own(kind, monkeypatch):
    """Drawn there, from a generator that the sample's seeds: the same in any batch."""
    monkeypatch.setattr(base, "Generator", lambda device=None: torch.Generator())
    device, shape = torch.device(kind), (2, 3, 5)
    with FakeGpu(kind):
        together = base.gaussian_on(device, base.generators([1, 2, 3]), shape).cpu()
        alone = base.gaussian_on(device, base.generators([2]), shape).cpu()
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    here = base.gaussian_on(torch.device("cpu"), base.generators([1, 2, 3]), shape)
    assert torch.equal(here, base.gaussian(base.generators([1, 2, 3]), shape))


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
