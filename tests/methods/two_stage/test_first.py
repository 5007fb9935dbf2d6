"""Stage 1: its pieces against closed forms, and a sample as if alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from tcig.data.errors import InputError
from tcig.methods.draws import generators
from tcig.methods.two_stage.first import (
    FirstOptions,
    FirstStage,
    learning_rates,
    spherical_distance,
    start_latents,
)
from tcig.models.clip import load_clip
from tcig.models.devices import Compute
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import locate


@pytest.fixture(scope="module")
def vqgan():
    return load_vqgan(locate("mini:vqgan"))


@pytest.fixture(scope="module")
def clip():
    return load_clip("mini:clip")


@pytest.fixture
def layouts(box_layout):
    return [
        box_layout(64, "a cat and a bus", "1", cat=(8, 40, 4, 30), bus=(20, 60, 34, 62)),
        box_layout(64, "a dog on the snow", "2", dog=(10, 50, 10, 50)),
        box_layout(64, "two cars", "3", car=(4, 30, 4, 60)),
    ]


def grey_levels(a, b):
    """Mean difference. A convolution rounds by its batch size, and Adam enlarges that: after three
    iterations single pixels may differ by tens of levels, the mean by a fraction of one."""
    return 255 * (a - b).abs().mean().item()


def options(**changes):
    shared = {"vqgan": "mini:vqgan", "clip": "mini:clip", "guides": ("mini:guide",)}
    return FirstOptions(**shared | {"iterations": 3, "cutouts": 2, "guide_size": 64} | changes)


def test_the_distance_is_half_the_squared_angle():
    angles = torch.tensor([0.1, 0.5, 1.5, 3.0])
    a = torch.stack([angles.cos(), angles.sin()], 1)
    b = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    assert spherical_distance(a, b).allclose(angles**2 / 2, rtol=1e-4)


def test_starts(vqgan, tmp_path):
    draws = generators([0, 1])
    codes = start_latents(vqgan, "codes", 64, draws)
    assert codes.shape == (2, 8, 16, 16)
    assert (torch.cdist(codes.movedim(1, -1).reshape(-1, 8), vqgan.codebook).amin(1) < 1e-4).all()
    grey = start_latents(vqgan, "grey", 64, draws)
    assert torch.equal(grey[0], grey[1])
    assert grey[:1].allclose(vqgan.quantise(vqgan.encode(torch.zeros(1, 3, 64, 64))), atol=1e-5)
    pixels = start_latents(vqgan, "pixels", 64, draws)
    assert not pixels[0].allclose(pixels[1])
    Image.new("RGB", (100, 100), (255, 0, 0)).save(tmp_path / "red.png")
    red = start_latents(vqgan, str(tmp_path / "red.png"), 64, draws)
    tensor = torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    assert red[1:].allclose(vqgan.quantise(vqgan.encode(tensor)), atol=1e-5)
    with pytest.raises(InputError, match=r"gray cannot be read .+ codes, grey, pixels"):
        start_latents(vqgan, "gray", 64, draws)


def test_rates_are_constant_or_fall_after_sixty_percent():
    assert learning_rates(FirstOptions(iterations=4, rate=0.2)) == [0.2] * 4
    falling = learning_rates(FirstOptions(iterations=11, rate=0.3, final_rate=1 / 3))
    assert falling[:7] == pytest.approx([0.3] * 7)
    assert falling[8] == pytest.approx(0.3 - 0.2 * 1.4 / 3.4)
    assert falling[10] == pytest.approx(0.1)
    assert learning_rates(FirstOptions(iterations=0)) == []


@pytest.mark.parametrize("style", ["pooled", "crops"])
def test_a_layout_is_drawn_as_if_alone(vqgan, clip, layouts, style):
    stage = FirstStage(options(style=style), vqgan, clip, 64)
    seeds = [11, 12, 13]
    together = stage(layouts, generators(seeds))
    assert torch.equal(together, stage(layouts, generators(seeds)))
    turned = stage(layouts[::-1], generators(seeds[::-1])).flip(0)
    assert grey_levels(turned, together) < 1
    for n, (layout, seed) in enumerate(zip(layouts, seeds, strict=True)):
        alone = stage([layout], generators([seed]))
        assert grey_levels(alone[0], together[n]) < 1
    assert grey_levels(together[0], stage(layouts[:1], generators([99]))[0]) > 20


def test_experts_guide_a_batch_as_if_alone(vqgan, clip, layouts):
    experts = ("mini:guide-animals", "mini:guide-objects")
    stage = FirstStage(options(guides=experts, clip_weight=0.0), vqgan, None, 64)
    together = stage(layouts, generators([1, 2, 3]))
    for n, layout in enumerate(layouts):
        alone = stage([layout], generators([n + 1]))
        assert grey_levels(alone[0], together[n]) < 1


def test_losses_fall_and_the_guide_finds_the_objects(vqgan, clip, layouts):
    events = {"iteration": [], "guide": []}
    stage = FirstStage(options(iterations=25, rate=0.2, guide_weight=20.0), vqgan, clip, 64)
    stage(layouts, generators([1, 2, 3]), lambda event, **found: events[event].append(found))
    assert len(events["guide"]) == 25
    first, last = events["iteration"][0]["losses"], events["iteration"][-2]["losses"]
    assert set(first) == {"clip", "guide"}
    for name in first:
        assert first[name].shape == (3,)
        assert last[name].mean() < first[name].mean()
    assert events["guide"][-1]["iou"].mean() > events["guide"][0]["iou"].mean() + 0.2
    assert events["iteration"][-1]["losses"] == {}


def test_without_a_loss_there_is_none(vqgan, clip, layouts):
    found = []
    stage = FirstStage(options(guide_weight=0.0, iterations=1), vqgan, clip, 64)
    stage(layouts, generators([1, 2, 3]), lambda event, **each: found.append((event, each)))
    assert [event for event, _ in found] == ["iteration", "iteration"]
    assert set(found[0][1]["losses"]) == {"clip"}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"clip_weight": 0.0, "guide_weight": 0.0}, "both 0"),
        ({"guides": ()}, "guides is empty"),
        ({"cutouts": 0}, "cutouts from 1"),
        ({"iterations": -1}, "iterations count from 0"),
    ],
)
def test_options_that_make_no_sense(changes, match):
    with pytest.raises(ValueError, match=match):
        options(**changes)


def test_an_image_to_start_from_is_where_no_iteration_stays(vqgan, clip, layouts, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(tmp_path / "start.png")
    stage = FirstStage(options(iterations=0, start=str(tmp_path / "start.png")), vqgan, clip, 64)
    images = stage(layouts[:1], generators([0]))
    with Image.open(tmp_path / "start.png") as file:
        tensor = torch.from_numpy(np.array(file)).movedim(-1, 0)[None] / 127.5 - 1
    assert images.allclose(((vqgan(tensor) + 1) / 2).clamp(0, 1), atol=1e-5)


@pytest.fixture
def first_gradient(vqgan, clip, layouts, monkeypatch):
    """The latents' gradient in the first iteration, the guide's loss over 520 x 520 pixels."""

    def draw(precision):
        found, step = [], torch.optim.Adam.step

        def spy(self):
            found.append(self.param_groups[0]["params"][0].grad.flatten().clone())
            return step(self)

        monkeypatch.setattr(torch.optim.Adam, "step", spy)
        compute = Compute(on="cpu", precision=precision)
        stage = FirstStage(options(iterations=1, guide_size=520), vqgan, clip, 64, compute)
        stage(layouts[:1], generators([1]))
        return found[0]

    return draw


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_gradient_survives_half_precision_at_the_size_of_the_paper(first_gradient, precision):
    """As in direct guidance; beside float16 stage 1 stays in float32."""
    half, exact = first_gradient(precision), first_gradient("float32")
    assert torch.cosine_similarity(half, exact, dim=0) >= 0.99
    assert half.norm() / exact.norm() == pytest.approx(1, abs=0.02)
