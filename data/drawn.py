"""Masks that people draw -> a layout: a coloured picture, a picture for each object, or JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor
from scipy.ndimage import binary_dilation

from tcig.data.errors import InputError
from tcig.data.layout import Layout, Region
from tcig.data.masks import check_runs, decode, encode, to_rle
from tcig.data.voc import BY_COCO_ID, BY_LABEL, COLOURS, LABELS

Colour = tuple[int, int, int]
BACKGROUND = LABELS[0]
NEAR = 24
"""Distance in RGB within which a pixel has a legend's colour, or a blend of two; ours."""
RIM = 2
"""Pixels from a legend's colour up to which a blend is an anti-aliased edge; ours."""
SPECKS = 8
"""Pixels of one colour, no blend of two, that may be the corner of three; ours."""


def drawn_layout(caption: str, masks: Sequence[Path], legend: Mapping[Colour, str]) -> Layout:
    """The layout of a prompt and its masks.

    Args:
        caption: the prompt of the whole image.
        masks: one coloured picture; or pictures named after their classes (`cat.png`, `cat-2.png`),
            light where the object is; or one JSON of annotations with COCO's segmentations.
        legend: class of each colour of a coloured picture.

    Raises:
        InputError: a file cannot be read, is no square or of another size than the others; a class
            or a colour is unknown; nothing is drawn.
    """
    if not masks:
        raise InputError("give --mask FILE: a coloured picture, one for each object, or JSON.")
    if masks[0].suffix == ".json":
        if len(masks) > 1:
            raise InputError(f"{masks[1]}: only one JSON of masks is taken.")
        found = _from_json(masks[0])
    elif len(masks) == 1 and _label_of(masks[0]) is None:
        found = _from_colours(masks[0], legend)
    else:
        found = [_from_picture(path) for path in masks]
    sides = {mask.shape for _, mask in found}
    if len(sides) > 1:
        sizes = " and ".join(f"{width}x{height}" for height, width in sorted(sides))
        raise InputError(f"the masks are of different sizes ({sizes}): draw them on one.")
    found = [(label, mask) for label, mask in found if mask.any()]
    if not found:
        raise InputError(f"{masks[0]} has no object: all of it is background.")
    ((height, width),) = sides
    if height != width:
        raise InputError(f"{masks[0]} is {width}x{height}: a mask is a square, crop it to one.")
    regions = tuple(
        Region(annotation=number, label=label, mask=encode(mask))
        for number, (label, mask) in enumerate(found, start=1)
    )
    return Layout(id="drawn", image="", side=width, caption=caption, regions=regions)


def parse_legend(entries: Sequence[str]) -> dict[Colour, str]:
    """`COLOUR=LABEL` entries, a colour being #rrggbb, r,g,b or a CSS name; none: VOC's palette.

    Black and white are the background unless an entry says otherwise.

    Raises:
        InputError: no such colour or class, or a colour that is given twice.
    """
    if not entries:
        return dict(zip(COLOURS, LABELS, strict=True)) | {(255, 255, 255): BACKGROUND}
    legend: dict[Colour, str] = {}
    for entry in entries:
        text, _, label = entry.rpartition("=")
        colour = _colour(text.strip(), entry)
        if colour in legend:
            raise InputError(f"--legend {entry!r}: the colour stands twice.")
        legend[colour] = BACKGROUND if label == BACKGROUND else _known(label.strip(), entry)
    return {(0, 0, 0): BACKGROUND, (255, 255, 255): BACKGROUND} | legend


def _colour(text: str, entry: str) -> Colour:
    try:
        if "," in text:
            text = f"rgb({text})"
        return ImageColor.getrgb(text)[:3]
    except ValueError:
        raise InputError(
            f"--legend {entry!r}: give COLOUR=LABEL, a colour as #rrggbb, r,g,b or a name."
        ) from None


def _known(label: str, where: object) -> str:
    if label not in BY_LABEL:
        raise InputError(f"{where}: no class {label!r}: there are {', '.join(BY_LABEL)}.")
    return label


def _label_of(path: Path) -> str | None:
    """The class that a file is named after: `cat`, `cat-2`, `potted_plant`."""
    stem = path.stem.rstrip("0123456789").rstrip("-_ ") or path.stem
    label = stem.lower().replace("_", " ").replace("-", " ")
    return label if label in BY_LABEL else None


def _from_picture(path: Path) -> tuple[str, np.ndarray]:
    label = _label_of(path)
    if label is None:
        raise InputError(
            f"{path} is named after no class: one picture an object is named as in cat.png or "
            f"cat-2.png; there are {', '.join(BY_LABEL)}."
        )
    return label, np.asarray(_open(path).convert("L")) > 127


def _open(path: Path) -> Image.Image:
    """The picture, what is transparent on black."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read as a picture ({error.strerror or error})."
        ) from None
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, picture).convert("RGB")


def _from_colours(path: Path, legend: Mapping[Colour, str]) -> list[tuple[str, np.ndarray]]:
    """A mask for each class of the legend that the picture has.

    Each pixel takes the legend's nearest colour: exact ones, and those of anti-aliased edges, which
    are blends of two of the legend's beside one of them. All else is an unknown colour.
    """
    pixels = np.asarray(_open(path))
    colours = np.array(list(legend), float)
    values, place, counts = np.unique(
        pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    distance = np.linalg.norm(values[:, None] - colours, axis=2)
    nearest, exact = distance.argmin(1), distance.min(1) <= NEAR
    place = place.reshape(pixels.shape[:2])
    rim = binary_dilation(exact[place], np.ones((3, 3)), RIM)
    inside = np.bincount(place[~rim], minlength=len(values)) > 0
    unknown = ~exact & (inside | (~_blends(values, colours) & (counts >= SPECKS)))
    if unknown.any():
        worst = np.flatnonzero(unknown)[np.argsort(-counts[unknown])][:3]
        names = ", ".join(f"#{bytes(values[n]).hex()} ({counts[n]} pixels)" for n in worst)
        drawn = ", ".join(f"#{bytes(c).hex()} {label}" for c, label in legend.items())
        raise InputError(f"{path} has colours that the legend lacks: {names}; it has {drawn}.")
    labels = np.array(list(legend.values()))[nearest][place]
    return [(label, labels == label) for label in LABELS[1:] if (labels == label).any()]


def _blends(values: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Whether each colour lies near a line between two of `colours`."""
    near = np.zeros(len(values), bool)
    for number, start in enumerate(colours):
        for end in colours[number + 1 :]:
            line = end - start
            share = np.clip((values - start) @ line / max(line @ line, 1), 0, 1)
            near |= np.linalg.norm(values - start - share[:, None] * line, axis=1) <= NEAR
    return near


def _from_json(path: Path) -> list[tuple[str, np.ndarray]]:
    """Annotations with `label` or COCO's `category_id`, and an RLE or polygons with `size`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}).") from None
    records = content.get("annotations", [content]) if isinstance(content, dict) else content
    found = []
    for number, record in enumerate(records, start=1):
        where = f"{path}, mask {number}"
        try:
            label = record.get("label") or BY_COCO_ID[record["category_id"]].label
            segmentation = record["segmentation"]
            size = record["size"] if isinstance(segmentation, list) else segmentation["size"]
            height, width = (int(side) for side in size)
            rle = to_rle(segmentation, height, width)
            check_runs(rle)
            found.append((_known(label, where), decode(rle)))
        except InputError:
            raise
        except Exception as error:  # whatever pycocotools makes of what is no segmentation
            raise InputError(
                f"{where} is none ({type(error).__name__}: {error}): it needs `label` or COCO's "
                "`category_id`, and `segmentation`, an RLE or polygons with `size`."
            ) from None
    return found
