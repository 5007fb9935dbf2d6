"""Measures the shipped miniature models against their targets, on the validation split.

    python -m tcig.models.mini.train.evaluate --out results/mini
    python -m tcig.models.mini.train.evaluate vae vqgan --out results/mini

It writes the metrics into the models' cards, pictures into OUT, and OUT/suite.md from all cards. A
card's `remarks` are written by hand: what falls short, why, what to try; training drops them.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import diffusers
import numpy as np
import pandas as pd
import torch
from PIL import Image
from tabulate import tabulate

from tcig.data.emoji.scenes import backdrop, portrait
from tcig.data.files import write_whole
from tcig.data.masks import resize_nearest
from tcig.data.voc import BY_LABEL, CLASSES, painted, with_article
from tcig.eval.iou import Samples, confusion, image_iou
from tcig.eval.judges import load_judge
from tcig.eval.pictures import write_grid
from tcig.models import mini
from tcig.models.clip import load_clip
from tcig.models.diffusion import to_images
from tcig.models.mini.train.data import CANVAS, layouts, plain_scenes, real_images, to_float
from tcig.models.mini.train.segmenters import half_formed
from tcig.models.vqgan import load_vqgan

STEPS, GUIDANCE_SCALE = 30, 5.0
"""DDIM steps and guidance scale of all generated images."""
SEEDS, SCENES, OBJECTS = 10, 60, 100
VISIBLE = 0.02
"""Share of the image from which on a named class counts as found."""
LABELS = [c.label for c in CLASSES]
PROMPTS = [with_article(label) for label in LABELS]


class Metric(NamedTuple):
    """The value of a metric, its target if it has one, and its description."""

    value: float
    target: float | None
    how: str


TARGETS = {
    "miou": (0.75, "mIoU over the classes that it knows, 128 scenes"),
    "to_text": (0.75, "caption retrieval top-1 of 200, image to text"),
    "to_image": (0.75, "caption retrieval top-1 of 200, text to image"),
    "zero_shot": (0.90, "class of 200 single objects"),
}
"""Target and description of held-out metrics that cards have from the end of training."""
PAGE = """\
# The miniature models on held-out scenes

This page shows what each miniature model reaches on the validation split, and its target. The judge
is `miniature`. `python -m tcig.models.mini.train.evaluate --out results/mini` measures it again.

{table}

{remarks}"""


def label_maps(images: Sequence[Image.Image], judge: str = "miniature") -> list[np.ndarray]:
    """Label maps (64, 64) of a judge."""
    _, network = load_judge(judge)
    batches = [network.segment(images[first : first + 16]) for first in range(0, len(images), 16)]
    return [resize_nearest(result.labels, CANVAS) for batch in batches for result in batch]


def mean_iou(images: Sequence[Image.Image], judge: str = "miniature") -> float:
    """`iou_image` of one image for each validation layout."""
    pairs = zip(layouts(), label_maps(images, judge), strict=True)
    counts = [confusion(layout.class_map(CANVAS), labels) for layout, labels in pairs]
    samples = Samples.of(counts, [layout.classes for layout in layouts()])
    return float(image_iou(samples).mean())


@cache
def real_iou() -> float:
    """`iou_image` of the real images."""
    return mean_iou(real_images())


def named_classes(images: Sequence[Image.Image]) -> np.ndarray:
    """The class that the scoring CLIP finds nearest to each image, as a row of `CLASSES`."""
    clip = load_clip(mini.WEIGHTS / "clip-score")
    vectors = clip.encode_images(to_float(np.stack([np.asarray(image) for image in images])))
    return (vectors @ clip.encode_texts(PROMPTS).T).argmax(1).numpy()


def by_class(values: Iterable[tuple[str, float]], target: float, how: str) -> Metric:
    """The mean of values with their classes; its description names the classes below target."""
    table = pd.DataFrame(values, columns=["label", "value"]).astype({"value": float})
    means = table.groupby("label")["value"].mean().sort_values()
    weak = ", ".join(f"{label} {mean:.2f}" for label, mean in means[means < target].items())
    how = f"{how}; classes under {target:.2f}: {weak or 'none'}"
    return Metric(table["value"].mean(), target, how)


def generate(pipeline, prompts: list[str], **inputs) -> list[Image.Image]:
    """One image for each prompt, seeded by its position; `inputs` are lists of that length."""
    pipeline.set_progress_bar_config(disable=True)
    images = []
    for first in range(0, len(prompts), 20):
        part = slice(first, first + 20)
        seeds = range(first, first + len(prompts[part]))
        images += pipeline(
            prompts[part],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE_SCALE,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **{key: v[part] if isinstance(v, list) else v for key, v in inputs.items()},
        ).images
    return images


@torch.inference_mode()
def reconstruct(model: Callable) -> list[Image.Image]:
    """The real images through a model of tensors (B, 3, 64, 64) in [-1, 1]."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in real_images()]))
    parts = (pixels.permute(0, 3, 1, 2).contiguous() / 127.5 - 1).split(32)
    return [image for part in parts for image in to_images(model(part).clamp(-1, 1))]


def measure_reconstruction(model: Callable, target: float, path: Path) -> dict[str, Metric]:
    """IoU of the reconstructed real images."""
    outputs = reconstruct(model)
    write_grid(path, [real_images()[:16], outputs[:16]], ["real", "reconstruction"])
    how = f"iou_image of reconstructions, divided by that of the real images ({real_iou():.3f})"
    return {"iou_of_real": Metric(mean_iou(outputs) / real_iou(), target, how)}


def measure_vae(folder: Path) -> dict[str, Metric]:
    """Reconstructions through the mode of the latents."""
    vae = diffusers.AutoencoderKL.from_pretrained(mini.WEIGHTS / "stable-diffusion" / "vae")
    model = lambda images: vae.decode(vae.encode(images).latent_dist.mode()).sample  # noqa: E731
    return measure_reconstruction(model, 0.92, folder / "vae.png")


def measure_judge(folder: Path) -> dict[str, Metric]:
    """IoU of the real images."""
    how = f"iou_image of the {len(layouts())} real images at {CANVAS} px"
    return {"iou_image": Metric(real_iou(), 0.85, how)}


def measure_guide(folder: Path) -> dict[str, Metric]:
    """The guide's own IoU of the images that it has to guide."""
    vqgan = load_vqgan(mini.WEIGHTS / "vqgan")
    rng = torch.Generator().manual_seed(0)
    mixed = reconstruct(lambda images: half_formed(vqgan, images, rng))
    views = {
        "real": (real_images(), "the real images"),
        "reconstructed": (reconstruct(vqgan), "the VQGAN's reconstructions"),
        "half_formed": (mixed, "images decoded from latents mixed with random codes"),
    }
    return {
        name: Metric(mean_iou(images, "guide"), None, f"the guide's own iou_image of {what}")
        for name, (images, what) in views.items()
    }


def measure_text_to_image(folder: Path) -> dict[str, Metric]:
    """Single objects named by the scoring CLIP, scenes found by the judge, image-to-image."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(mini.WEIGHTS / "stable-diffusion")
    singles = generate(pipeline, PROMPTS * SEEDS, height=CANVAS, width=CANVAS)
    is_named = named_classes(singles) == np.arange(len(singles)) % len(CLASSES)
    named = zip(LABELS * SEEDS, is_named, strict=True)
    grid = [singles[first : first + len(CLASSES)] for first in range(0, 6 * len(CLASSES), 20)]
    write_grid(folder / "text-to-image.png", grid, columns=LABELS)

    scenes = plain_scenes(SCENES)
    captions = [s.captions[0] for s in scenes]
    images = generate(pipeline, captions, height=CANVAS, width=CANVAS)
    found = [
        (label, (labels == BY_LABEL[label].index).mean() >= VISIBLE)
        for labels, s in zip(label_maps(images), scenes, strict=True)
        for label in {thing.label for thing in s.things}
    ]
    write_grid(folder / "scenes.png", [images[first : first + 10] for first in (0, 10, 20)])

    img2img = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components)
    captions = [layout.caption for layout in layouts()]
    by_strength = {
        strength: generate(img2img, captions, image=real_images(), strength=strength)
        for strength in (0.3, 0.5, 0.7)
    }
    grid = [real_images()[:16], *(outputs[:16] for outputs in by_strength.values())]
    write_grid(folder / "img2img.png", grid, ["real", *map(str, by_strength)])
    iou = mean_iou(by_strength[0.5]) / real_iou()
    how = "iou_image after image-to-image at strength 0.5, divided by that of the real images"
    share = f"share of the objects of {SCENES} captions that the judge finds"
    return {
        "named": by_class(named, 0.8, "share of images whose class the scoring CLIP names"),
        "found": by_class(found, 0.6, share),
        "img2img": Metric(iou, 0.6, how),
    }


def measure_inpainting(folder: Path) -> dict[str, Metric]:
    """One object in its mask on an empty background; nothing is pasted."""
    path = mini.WEIGHTS / "stable-diffusion-inpainting"
    pipeline = diffusers.StableDiffusionInpaintPipeline.from_pretrained(path)
    portraits = [portrait("validation", index) for index in range(OBJECTS)]
    backdrops = [Image.fromarray(backdrop("validation", index)) for index in range(OBJECTS)]
    empty = [image.resize((CANVAS, CANVAS), Image.Resampling.LANCZOS) for image in backdrops]
    truths = [resize_nearest(p.things[0].mask, CANVAS) for p in portraits]
    masks = [Image.fromarray(truth).convert("L") for truth in truths]
    prompts = [p.captions[-1] for p in portraits]
    images = generate(pipeline, prompts, image=empty, mask_image=masks, height=CANVAS, width=CANVAS)
    ious = []
    for p, truth, labels in zip(portraits, truths, label_maps(images), strict=True):
        label = p.things[0].label
        mask = labels == BY_LABEL[label].index
        ious.append((label, (mask & truth).sum() / (mask | truth).sum()))
    grid = [empty[:20], masks[:20], images[:20]]
    write_grid(folder / "inpainting.png", grid, ["background", "mask", "inpainted"])
    return {"iou": by_class(ious, 0.45, f"IoU of {OBJECTS} objects with their masks")}


def measure_adapter(folder: Path) -> dict[str, Metric]:
    """The validation layouts from caption and class map, and from the caption alone."""
    base = mini.WEIGHTS / "stable-diffusion"
    adapter = diffusers.T2IAdapter.from_pretrained(mini.WEIGHTS / "t2i-adapter")
    plain = diffusers.StableDiffusionPipeline.from_pretrained(base)
    steered = diffusers.StableDiffusionAdapterPipeline.from_pretrained(base, adapter=adapter)
    maps = [Image.fromarray(painted(layout.class_map(CANVAS), "voc")) for layout in layouts()]
    captions = [layout.caption for layout in layouts()]
    images = generate(steered, captions, image=maps, height=CANVAS, width=CANVAS)
    without = generate(plain, captions, height=CANVAS, width=CANVAS)
    grid = [row[:16] for row in (maps, images, without, real_images())]
    names = ["map", "map and caption", "caption alone", "real"]
    write_grid(folder / "t2i-adapter.png", grid, names)
    how = f"iou_image of {len(maps)} layouts; from captions alone {mean_iou(without):.3f}"
    return {"iou_image": Metric(mean_iou(images), 0.45, how)}


MEASURES: dict[str, Callable[[Path], dict[str, Metric]]] = {
    "judge": measure_judge,
    "guide": measure_guide,
    "vae": measure_vae,
    "vqgan": lambda folder: measure_reconstruction(
        load_vqgan(mini.WEIGHTS / "vqgan"), 0.85, folder / "vqgan.png"
    ),
    "stable-diffusion": measure_text_to_image,
    "stable-diffusion-inpainting": measure_inpainting,
    "t2i-adapter": measure_adapter,
}


def page(cards: list[dict]) -> str:
    """The Markdown page: every metric beside its target, and the cards' remarks."""
    rows = []
    for card in cards:
        held_out = card["held_out"] if card["model"] != "judge" else {}  # it has another target
        metrics = [Metric(held_out[name], *TARGETS[name]) for name in TARGETS if name in held_out]
        metrics += [Metric(**values) for values in card.get("measured", {}).values()]
        for value, target, how in metrics:
            verdict = ("", "")
            if target is not None:
                missed = f"missed by {target - value:.3f}" if value < target else "reached"
                verdict = (f"{target:.2f}", missed)
            rows.append((card["model"], how, f"{value:.3f}", *verdict))
    headers = ("model", "metric", "reached", "target", "")
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    remarks = [f"- {card['model']}: {card['remarks']}" for card in cards if "remarks" in card]
    return PAGE.format(table=table, remarks="\n".join(remarks)).strip() + "\n"


def main() -> None:
    """Measures the named models, or all that are shipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="model", help=f"any of {', '.join(MEASURES)}")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cards = {path.stem: json.loads(path.read_text()) for path in mini.WEIGHTS.glob("*.json")}
    if unknown := set(options.models) - (MEASURES.keys() & cards.keys()):
        parser.error(f"nothing to measure of {', '.join(sorted(unknown))}: unknown or not shipped")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, measure in MEASURES.items():
        if name in cards and name in (options.models or cards):
            metrics = measure(options.out)
            cards[name]["measured"] = {key: metric._asdict() for key, metric in metrics.items()}
            write_whole(mini.WEIGHTS / f"{name}.json", json.dumps(cards[name], indent=2) + "\n")
            print(json.dumps({name: cards[name]["measured"]}, indent=2))
    write_whole(options.out / "suite.md", page([cards[name] for name in sorted(cards)]))


if __name__ == "__main__":
    main()
