"""What the miniature models reach on the validation split, through the stock libraries.

Each function measures one model, draws its contact sheets, and gives its figures.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from tcig.data.build import build_layouts
from tcig.data.emoji import FOLDER
from tcig.data.emoji.scenes import backdrop, portrait, scene
from tcig.data.filters import Filter
from tcig.data.layout import Layout
from tcig.data.masks import resize_nearest
from tcig.data.voc import BY_LABEL, CLASSES, with_article
from tcig.eval.grids import write_grid
from tcig.eval.iou import Samples, confusion, image_iou
from tcig.eval.judges import load_judge
from tcig.models.clip import load_clip
from tcig.models.mini import WEIGHTS
from tcig.models.mini.recipes.reconstructions import half_formed
from tcig.models.vqgan import load_vqgan

CANVAS = SCORE = 64
STEPS, GUIDANCE = 30, 5.0
"""DDIM steps and guidance scale of every figure below."""
SEEDS, SCENES, OBJECTS = 10, 60, 100
VISIBLE = 0.02
"""Share of the image from which on a named class counts as found."""


class Figure(NamedTuple):
    """One measured figure: its value, what it should reach if anything, how it was measured."""

    value: float
    target: float | None
    how: str


@cache
def layouts() -> list[Layout]:
    """The validation layouts under the default filter."""
    return list(build_layouts(FOLDER, Filter())[1])


@cache
def real() -> list[Image.Image]:
    """Their images on the models' canvas."""
    files = [Image.open(FOLDER / layout.image).convert("RGB") for layout in layouts()]
    return [file.resize((CANVAS, CANVAS), Image.Resampling.LANCZOS) for file in files]


def seen(images: Sequence[Image.Image], name: str = "miniature") -> list[np.ndarray]:
    """The label maps of the judge `name` at the score size."""
    _, judge = load_judge(name)
    found = [judge.segment(images[first : first + 16]) for first in range(0, len(images), 16)]
    return [resize_nearest(each.labels, SCORE) for batch in found for each in batch]


def mean_iou(images: Sequence[Image.Image], name: str = "miniature") -> float:
    """`iou_image` of one image per layout under the judge `name`."""
    pairs = zip(layouts(), seen(images, name), strict=True)
    counts = [confusion(layout.class_map(SCORE), labels) for layout, labels in pairs]
    classes = [sorted({region.index for region in layout.regions}) for layout in layouts()]
    return float(image_iou(Samples.of(counts, classes)).mean())


@cache
def ceiling() -> float:
    """`iou_image` of the real images."""
    return mean_iou(real())


def _tensors(images: Sequence[Image.Image]) -> torch.Tensor:
    pixels = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous() / 127.5 - 1


def _images(tensors: torch.Tensor) -> list[Image.Image]:
    pixels = ((tensors.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).numpy()
    return [Image.fromarray(each) for each in pixels]


@torch.inference_mode()
def _reconstructed(model: Callable) -> list[Image.Image]:
    return [out for part in _tensors(real()).split(32) for out in _images(model(part))]


def _reconstruction(model: Callable, target: float, sheet: Path) -> dict[str, Figure]:
    outputs = _reconstructed(model)
    write_grid(sheet, [real()[:16], outputs[:16]], ["real", "reconstruction"])
    how = f"iou_image of reconstructions, divided by that of the real images ({ceiling():.3f})"
    return {"iou_of_real": Figure(mean_iou(outputs) / ceiling(), target, how)}


def judge(sheets: Path) -> dict[str, Figure]:
    """The row `real`: how well the judge reads the data itself; it has no sheet."""
    how = f"iou_image of the {len(layouts())} real images at {CANVAS} px"
    return {"iou_image": Figure(ceiling(), 0.85, how)}


def guide(sheets: Path) -> dict[str, Figure]:
    """How well the guide reads what it has to guide; it has no sheet."""
    codes = load_vqgan(WEIGHTS / "vqgan")
    mixed = partial(half_formed, codes, draw=torch.Generator().manual_seed(0))
    views = {
        "real": (real(), "the real images"),
        "reconstructed": (_reconstructed(codes), "the VQGAN's reconstructions"),
        "half_formed": (
            _reconstructed(mixed),
            "images decoded from latents mixed with random codes",
        ),
    }
    return {
        key: Figure(mean_iou(images, "guide"), None, f"the guide's own iou_image of {what}")
        for key, (images, what) in views.items()
    }


def vae(sheets: Path) -> dict[str, Figure]:
    """Reconstructions of the validation layouts' images through the latents' mode."""
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(WEIGHTS / "stable-diffusion" / "vae")

    def reconstruct(images):
        return model.decode(model.encode(images).latent_dist.mode()).sample

    return _reconstruction(reconstruct, 0.92, sheets / "vae.png")


def vqgan(sheets: Path) -> dict[str, Figure]:
    """Reconstructions through the codes."""
    return _reconstruction(load_vqgan(WEIGHTS / "vqgan"), 0.85, sheets / "vqgan.png")


def batched(pipeline, prompts: list[str], **inputs) -> list[Image.Image]:
    """One image a prompt, seeded by its place; `inputs` are lists as long as `prompts`."""
    pipeline.set_progress_bar_config(disable=True)
    outputs = []
    for first in range(0, len(prompts), 20):
        part = slice(first, first + 20)
        seeds = range(first, first + len(prompts[part]))
        outputs += pipeline(
            prompts[part],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **{key: v[part] if isinstance(v, list) else v for key, v in inputs.items()},
        ).images
    return outputs


def text_to_image(sheets: Path) -> dict[str, Figure]:
    """Single objects named by the scoring CLIP; scenes read by the judge; img2img."""
    from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "stable-diffusion")
    prompts = [with_article(c.label) for c in CLASSES]
    singles = batched(pipeline, prompts * SEEDS, height=CANVAS, width=CANVAS)
    labels = [c.label for c in CLASSES]
    named = _named(singles) == np.arange(len(singles)) % len(CLASSES)
    rows = [singles[first : first + len(CLASSES)] for first in range(0, 6 * len(CLASSES), 20)]
    write_grid(sheets / "text-to-image.png", rows, columns=labels)

    drawn = _plain_scenes()
    images = batched(pipeline, [s.captions[0] for s in drawn], height=CANVAS, width=CANVAS)
    found = [
        (label, (pixels == BY_LABEL[label].index).mean() >= VISIBLE)
        for pixels, s in zip(seen(images), drawn, strict=True)
        for label in {thing.label for thing in s.things}
    ]
    rows = [images[first : first + 10] for first in (0, 10, 20)]
    write_grid(sheets / "scenes.png", rows)

    again = StableDiffusionImg2ImgPipeline(**pipeline.components)
    captions = [layout.caption for layout in layouts()]
    by_strength = {s: batched(again, captions, image=real(), strength=s) for s in (0.3, 0.5, 0.7)}
    rows = [real()[:16], *(outputs[:16] for outputs in by_strength.values())]
    write_grid(sheets / "img2img.png", rows, ["real", *map(str, by_strength)])
    kept = mean_iou(by_strength[0.5]) / ceiling()
    named = zip(labels * SEEDS, named, strict=True)
    how = "iou_image after image-to-image at strength 0.5, divided by that of the real images"
    return {
        "named": _by_class(named, 0.8, "share of images whose class the scoring CLIP names"),
        "found": _by_class(
            found, 0.6, f"share of the objects of {SCENES} captions that the judge finds"
        ),
        "img2img": Figure(kept, 0.6, how),
    }


def _by_class(pairs: Iterable[tuple[str, float]], target: float, how: str) -> Figure:
    """The mean of values with their classes; `how` goes on with the classes under target."""
    table = pd.DataFrame(pairs, columns=["label", "value"]).astype({"value": float})
    means = table.groupby("label")["value"].mean().sort_values()
    weak = ", ".join(f"{label} {mean:.2f}" for label, mean in means[means < target].items())
    return Figure(
        table["value"].mean(), target, f"{how}; classes under {target:.2f}: {weak or 'none'}"
    )


def inpainting(sheets: Path) -> dict[str, Figure]:
    """One object in its mask on an empty background, nothing pasted."""
    from diffusers import StableDiffusionInpaintPipeline

    home = WEIGHTS / "stable-diffusion-inpainting"
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(home)
    drawn = [portrait("validation", index) for index in range(OBJECTS)]
    size = (CANVAS, CANVAS)
    empty = [
        Image.fromarray(backdrop("validation", index)).resize(size, Image.Resampling.LANCZOS)
        for index in range(OBJECTS)
    ]
    truths = [resize_nearest(s.things[0].mask, CANVAS) for s in drawn]
    masks = [Image.fromarray(truth).convert("L") for truth in truths]
    prompts = [s.captions[-1] for s in drawn]
    images = batched(pipeline, prompts, image=empty, mask_image=masks, height=CANVAS, width=CANVAS)
    ious = []
    for s, truth, labels in zip(drawn, truths, seen(images), strict=True):
        label = s.things[0].label
        mask = labels == BY_LABEL[label].index
        ious.append((label, (mask & truth).sum() / (mask | truth).sum()))
    write_grid(
        sheets / "inpainting.png",
        [empty[:20], masks[:20], images[:20]],
        ["background", "mask", "inpainted"],
    )
    return {"iou": _by_class(ious, 0.45, f"IoU of {OBJECTS} objects with their masks")}


def _named(images: Sequence[Image.Image]) -> np.ndarray:
    """The class that the scoring CLIP finds nearest, as a row of `CLASSES`."""
    clip = load_clip(WEIGHTS / "clip-score")
    texts = clip.encode_texts([with_article(c.label) for c in CLASSES])
    vectors = clip.encode_images((_tensors(images) + 1) / 2)
    return (vectors @ texts.T).argmax(1).numpy()


def _plain_scenes() -> list:
    """The first validation scenes of 2 or 3 objects, all of them at least 5% of the image."""
    chosen, index = [], 0
    while len(chosen) < SCENES:
        drawn = scene("validation", index)
        large = all(thing.mask.mean() >= 0.05 and not thing.crowd for thing in drawn.things)
        if 2 <= len(drawn.things) <= 3 and large:
            chosen.append(drawn)
        index += 1
    return chosen
