"""Every row on a GPU that is a fake: nothing of it meets the processor's tensors."""

import numpy as np
import pytest
import torch
from fake_gpu import FakeGpu

from tcig.data.emoji import FOLDER
from tcig.data.files import InputError
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts
from tcig.eval.judges import load_judge
from tcig.methods import views
from tcig.methods.base import gaussian
from tcig.methods.registry import ROWS
from tcig.methods.two_stage import cutouts
from tcig.models.devices import Compute, release
from tcig.profiles import load_profile
from tcig.run.spec import prepare

SMOKE = load_profile("smoke")
FEW = {
    "direct-guidance": {"steps": 2, "recurrence": 2},
    "text-only": {"steps": 2, "negative": "a cat"},
    "si": {"steps": 2},
    "controlnet": {"steps": 2},
    "t2i-adapter": {"steps": 2},
    "gligen": {"steps": 4},
    "bld": {"steps": 4, "candidates": 2, "clip": "mini:clip", "dilation": 1},
    "multidiffusion": {"steps": 5, "coverage": 0.5},
    "tcig": {"first.iterations": 2, "first.cutouts": 2, "second.steps": 5},
}
MORE = [
    ("si", {"handover": "pasted"}),
    ("bld", {"handover": "pixels", "variant": "ldm"}),
    ("tcig", {"first.style": "crops", "first.start": "codes", "first.over": "all"}),
    ("tcig-stage1", {"first.start": "pixels", "first.prediction": "sigmoid"}),
]


@pytest.fixture(scope="module")
def layouts():
    return hash_order(build_layouts(FOLDER, Filter())[1])[:2]


ALIKE = ("multidiffusion-no-bootstrap", "tcig-no-clip", "tcig-no-guidance", "tcig-stage1")
ALIKE += ("tcig-robust-stage1", "direct-guidance")
"""Rows that run what other cases run."""
CASES = [("cuda", row, {}) for row in ROWS if row not in ALIKE] + [("cuda", *each) for each in MORE]
CASES += [("mps", row, {}) for row in ("si", "bld", "multidiffusion", "gligen")]


@pytest.fixture(autouse=True)
def _same_noise(monkeypatch):
    """Cutouts' and views' noise, which a GPU draws itself, is here the CPU's."""

    def drawn_here(device, generators, shape):
        return gaussian(generators, shape).to(device)

    for module in (views, cutouts):
        monkeypatch.setattr(module, "gaussian_on", drawn_here)


@pytest.fixture(scope="module")
def here(layouts):
    """What a row draws on the processor, drawn once."""
    drawn = {}

    def draw(row, settings):
        if (key := (row, str(settings))) not in drawn:
            method = prepare(row, SMOKE, FOLDER, "0" * 64, settings)[1]
            drawn[key] = method.generate(layouts, [1, 2])
        return drawn[key]

    return draw


def drawn_on(kind, row, settings, layouts, expected, offload=False, after=lambda method: None):
    """Asserts that a row draws on a fake GPU what it draws here."""
    compute = Compute(on=kind, offload=offload)
    profile = SMOKE.model_copy(update={"compute": compute})
    try:
        with FakeGpu(kind) as mode:
            _, method = prepare(row, profile, FOLDER, "0" * 64, settings)
            found = method.generate(layouts, [1, 2])
            after(method)
    finally:
        release()
    assert bool(mode.marked) is bool(type(method).sources(method.options))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize(("kind", "row", "settings"), CASES, ids=str)
def test_a_row_draws_on_a_gpu_what_it_draws_here(kind, row, settings, layouts, open_rows, here):
    settings = open_rows.get(row, {}) | FEW.get(ROWS[row].method, {}) | settings
    drawn_on(kind, row, settings, layouts, here(row, settings))


@pytest.mark.parametrize("row", ["si", "controlnet", "tcig", "direct-guidance"])
def test_a_network_is_on_cuda_only_while_it_runs(row, layouts, open_rows, here):
    """With `offload`, but for a guided sampler, whose gradient passes all its networks."""
    settings = open_rows.get(row, {}) | FEW[row]

    def check(method):
        model = method.model if hasattr(method, "model") else method._stage2.pipeline
        kind = next(model.text_encoder.parameters()).device.type
        assert kind == ("cuda" if row == "direct-guidance" else "cpu")

    drawn_on("cuda", row, settings, layouts, here(row, settings), True, check)


@pytest.mark.parametrize("row", ["tcig-stage1", "direct-guidance-robust"])
def test_what_mps_cannot_differentiate_is_refused(row):
    profile = SMOKE.model_copy(update={"compute": Compute(on="mps")})
    with FakeGpu("mps"), pytest.raises(InputError, match="MPS"):
        prepare(row, profile, FOLDER, "0" * 64)


@pytest.mark.parametrize("name", ["miniature", "guide"])
def test_a_judge_sees_on_cuda_what_it_sees_here(name, layouts, monkeypatch):
    from PIL import Image

    images = [Image.open(FOLDER / each.image).convert("RGB") for each in layouts]
    expected = load_judge(name)[1].segment(images)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with FakeGpu() as mode:
        found = load_judge(name)[1].segment(images)
    assert mode.marked
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)


def test_the_fake_refuses_what_cuda_refuses():
    with FakeGpu() as mode:
        here, there = torch.ones(3), torch.ones(3).to("cuda")
        assert there.device.type == "cuda"
        assert (there + 1).device.type == "cuda"
        assert (there + torch.tensor(1.0)).is_cuda
        assert there[torch.tensor([0, 1])].is_cuda
        assert not there.cpu().is_cuda
        assert torch.zeros(2, device="cuda").is_cuda
        for wrong in (
            lambda: here + there,
            lambda: torch.cat([here, there]),
            lambda: there.numpy(),
            lambda: here.__setitem__(0, there[:1]),
            lambda: there.index_add(0, torch.tensor([0]), there[:1]),
            lambda: torch.randn(2, device="cuda", generator=torch.Generator()),
        ):
            with pytest.raises(AssertionError):
                wrong()
    assert mode.marked
