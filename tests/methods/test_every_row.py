"""Every row: alike in any batch, and on a GPU that is a fake.

On the fake nothing of a row may meet the processor's tensors.
"""

import numpy as np
import pytest
import torch
from fake_gpu import FakeGpu
from random_networks import noise_of_the_cpu, row_of_few_steps

from tcig.data.emoji import FOLDER
from tcig.data.files import InputError
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts
from tcig.eval.judges import load_judge
from tcig.methods.registry import ROWS
from tcig.models.devices import release

REFERENCES = ("real", "paste", "empty")
"""Rows without chance and without networks."""
RANKED = {"candidates": 2, "clip": "mini:clip", "steps": 3}
MORE = [
    ("si", {"handover": "pasted"}),
    ("bld", {"variant": "ldm", "handover": "pixels", "dilation": 1} | RANKED),
    ("multidiffusion", {"coverage": 0.5, "negative": "a cat"}),
    ("tcig", {"first.style": "crops", "first.start": "codes", "first.over": "all"}),
    ("tcig-stage1", {"first.start": "pixels", "first.prediction": "sigmoid"}),
]
OTHERS = ("text-only", "controlnet", "t2i-adapter", "gligen", "tcig-two-guides", "tcig-no-stage1")
OTHERS += ("tcig-robust", "direct-guidance-robust")
"""Rows that run on a GPU what no case of `MORE` runs."""
ON_GPU = [("cuda", row, {}) for row in OTHERS] + [("cuda", *case) for case in MORE]
ON_GPU += [("mps", row, {}) for row in ("si", "multidiffusion", "gligen")]


@pytest.fixture(scope="module")
def layouts():
    return hash_order(build_layouts(FOLDER, Filter())[1])[:2]


@pytest.fixture(scope="module")
def set_up(open_rows):
    """A row with few steps."""
    return lambda row, settings, on="cpu", **compute: row_of_few_steps(
        row, open_rows, settings, on=on, **compute
    )


def pixels_of(images):
    return np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.fixture(scope="module")
def here(set_up, layouts):
    """What a row generates on the processor, made once."""
    made = {}

    def generate(row, settings):
        if (key := (row, str(settings))) not in made:
            made[key] = pixels_of(set_up(row, settings).generate(layouts, [1, 2]))
        return made[key]

    return generate


@pytest.mark.parametrize(("row", "settings"), [(row, {}) for row in ROWS] + MORE, ids=str)
def test_a_sample_is_the_same_in_every_batch(row, settings, set_up, layouts, here):
    """But for kernels that sum in another order at another batch size, which guidance magnifies."""
    method, both = set_up(row, settings), here(row, settings)
    assert both.shape == (2, 64, 64, 3)
    turned = pixels_of(method.generate(layouts[::-1], [2, 1]))[::-1]
    alone, other = (pixels_of(method.generate(layouts[:1], [seed])) for seed in (1, 3))
    assert np.abs(turned - both).mean() < 1
    assert np.abs(alone - both[:1]).mean() < 1
    if row in REFERENCES:
        assert (turned == both).all()
    else:
        assert np.abs(alone - other).mean() > 1, "another seed is another image"


@pytest.fixture
def same_on(set_up, layouts, here):
    """Asserts that a row generates on a fake GPU what it generates here."""

    def check(kind, row, settings, offload=False, after=lambda method: None):
        expected = here(row, settings)
        try:
            with noise_of_the_cpu(), FakeGpu(kind) as mode:
                method = set_up(row, settings, on=kind, offload=offload)
                found = method.generate(layouts, [1, 2])
                after(method)
        finally:
            release()
        assert mode.marked
        assert (pixels_of(found) == expected).all()

    return check


@pytest.mark.parametrize(("kind", "row", "settings"), ON_GPU, ids=str)
def test_a_row_generates_on_a_gpu_what_it_generates_here(kind, row, settings, same_on):
    same_on(kind, row, settings)


@pytest.mark.parametrize("row", ["si", "controlnet", "tcig", "direct-guidance"])
def test_with_offload_a_network_is_on_cuda_only_while_it_runs(row, same_on):
    """But for a guided sampler, whose gradient passes all its networks."""

    def check(method):
        model = method.model if hasattr(method, "model") else method._stage2.pipeline
        kind = next(model.text_encoder.parameters()).device.type
        assert kind == ("cuda" if row == "direct-guidance" else "cpu")

    same_on("cuda", row, {}, True, check)


@pytest.mark.parametrize("row", ["tcig-stage1", "direct-guidance-robust"])
def test_what_mps_cannot_differentiate_is_refused(row, set_up):
    with FakeGpu("mps"), pytest.raises(InputError, match="MPS"):
        set_up(row, {}, on="mps")


@pytest.mark.parametrize("name", ["miniature", "guide"])
def test_a_judge_sees_on_cuda_what_it_sees_here(name, layouts, set_up, monkeypatch):
    images = set_up("real", {}).generate(layouts, [1, 2])
    expected = load_judge(name)[1].segment(images)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with FakeGpu() as mode:
        found = load_judge(name)[1].segment(images)
    assert mode.marked
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)


def test_the_fake_refuses_what_cuda_refuses():
    with FakeGpu():
        here, there = torch.ones(3), torch.ones(3).to("cuda")
        assert (there + torch.tensor(1.0)).is_cuda
        for wrong in (
            lambda: here + there,
            lambda: there.numpy(),
            lambda: there.index_add(0, torch.tensor([0]), there[:1]),
            lambda: torch.randn(2, device="cuda", generator=torch.Generator()),
        ):
            with pytest.raises(AssertionError):
                wrong()
