"""Masks that people draw -> a layout: a coloured picture, a picture for each object, or JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageColor
from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter

from tcig.data.checks import check_category, check_segmentation, class_of, encodable
from tcig.data.errors import InputError, shown
from tcig.data.layout import Layout, Region
from tcig.data.masks import decode, encode, to_rle
from tcig.data.parsing import read_json
from tcig.data.pictures import check_size, eight_bits, open_picture
from tcig.data.voc import BY_COCO_ID, BY_LABEL, COLOURS, LABELS

Colour = tuple[int, int, int]
BACKGROUND = LABELS[0]
NEAR = 24
"""Distance in RGB within which a pixel has a legend's colour, or a blend of two; ours."""
RIM = 2
"""Pixels from a legend's colour up to which a blend is an anti-aliased edge; ours."""
SPECKS = 8
"""Pixels of one colour, no blend of two, that may be the corner of three; ours."""
OPAQUE = 128
"""Alpha from which a pixel is drawn; below it is background; ours."""
MOST_COLOURS = 200_000
"""In a mask: soft edges and JPEG have thousands; ours."""
EVEN = 4
"""Levels of a channel within which neighbours are an even area, not a soft edge; ours."""


def drawn_layout(caption: str, masks: Sequence[Path], legend: Mapping[Colour, str]) -> Layout:
    """The layout of a prompt and its masks.

    Args:
        caption: the prompt of the whole image.
        masks: one coloured picture; or pictures named after their classes (`cat.png`, `cat-2.png`)
            or written by `tcig layouts --export`, of one object each; or one JSON of annotations
            with COCO's segmentations.
        legend: class of each colour of a coloured picture; empty: VOC's palette, see `palette`.
            Where it is given, one picture is a coloured one, whatever its name.

    Raises:
        InputError: a file cannot be read, is no square or of another size than the others; a class
            or a colour is unknown; nothing is drawn.
    """
    if not encodable(caption):
        raise InputError(f"the prompt {caption!r} is not Unicode; type it again.")
    if not masks:
        raise InputError("give --mask FILE: a coloured picture, one for each object, or JSON.")
    if masks[0].suffix.lower() == ".json":
        if len(masks) > 1:
            raise InputError(f"{masks[1]}: only one JSON of masks is taken.")
        found = _from_json(masks[0])
    elif len(masks) == 1 and (legend or _label_of(masks[0]) is None):
        found = _from_colours(masks[0], legend or palette())
    else:
        found = [_from_picture(path) for path in masks]
    sides = {mask.shape for _, mask in found}
    if len(sides) > 1:
        sizes = " and ".join(f"{width}x{height}" for height, width in sorted(sides))
        raise InputError(f"the masks are of different sizes ({sizes}): draw them on one.")
    found = [(label, mask) for label, mask in found if mask.any()]
    if not found:
        raise InputError(f"{masks[0]} has no object: all of it is background.")
    ((side, _),) = sides
    regions = tuple(
        Region(annotation=number, label=label, mask=encode(mask))
        for number, (label, mask) in enumerate(found, start=1)
    )
    return Layout(id="drawn", image="", side=side, caption=caption, regions=regions)


def palette() -> dict[Colour, str]:
    """VOC's palette, with white for the background too."""
    return dict(zip(COLOURS, LABELS, strict=True)) | {(255, 255, 255): BACKGROUND}


def parse_legend(entries: Sequence[str]) -> dict[Colour, str]:
    """`COLOUR=LABEL` entries, a colour being #rrggbb, r,g,b or a CSS name; empty without entries.

    Black and white are the background unless an entry says otherwise.

    Raises:
        InputError: no such colour or class, or a colour that is given twice.
    """
    if not entries:
        return {}
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
        colour = ImageColor.getrgb(f"rgb({text})" if "," in text else text)[:3]
        bytes(colour)  # Pillow takes 300,0,0
    except ValueError:
        raise InputError(
            f"--legend {entry!r}: give COLOUR=LABEL, a colour as #rrggbb, r,g,b with values from 0 "
            "to 255, or a name."
        ) from None
    return colour


def _known(label: str, where: object) -> str:
    if label not in BY_LABEL:
        raise InputError(f"{where}: no class {label!r}: there are {', '.join(BY_LABEL)}.")
    return label


def _label_of(path: Path) -> str | None:
    """The class of one object's picture: an exported one's, or the one that it is named after, as
    `cat`, `cat-2`, `potted_plant`."""
    if exported := _exported_label(path):
        return exported
    stem = path.stem.rstrip("0123456789").rstrip("-_ ") or path.stem
    label = stem.lower().replace("_", " ").replace("-", " ")
    return label if label in BY_LABEL else None


def _exported_label(path: Path) -> str | None:
    """The class of a mask that `tcig layouts --export` wrote, by the layouts.json beside it."""
    index = path.absolute().parents[1] / "layouts.json"
    if path.absolute().parent.name != "masks" or not index.is_file():
        return None
    layouts = read_json(index)
    try:
        labels = {each["mask"]: each["label"] for layout in layouts for each in layout["regions"]}
    except (KeyError, TypeError):
        raise InputError(
            f"{index} is not the index of an export; export the layouts again."
        ) from None
    return class_of(labels.get(f"masks/{path.name}"))


def _from_picture(path: Path) -> tuple[str, np.ndarray]:
    label = _label_of(path)
    if label is None:
        raise InputError(
            f"{path} is named after no class: one picture an object is named as in cat.png or "
            f"cat-2.png; there are {', '.join(BY_LABEL)}."
        )
    pixels, opaque = _open(path)
    if _exported_label(path):
        return label, pixels[..., 0] >= OPAQUE
    return label, opaque if not opaque.all() else _not_ground(path, pixels)


def _open(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colours, (S, S, 3) uint8, and where they are opaque, (S, S) bool."""
    picture = eight_bits(open_picture(path), path)
    _check_square(path, *picture.size)
    pixels = np.asarray(picture.convert("RGBA"))
    return pixels[..., :3], pixels[..., 3] >= OPAQUE


def _check_square(path: Path, width: int, height: int) -> None:
    if width != height:
        raise InputError(f"{path} is {width}x{height}: a mask is a square, crop it to one.")


def _not_ground(path: Path, pixels: np.ndarray) -> np.ndarray:
    """The object of an opaque picture: what differs from its ground, the colour of the border.

    A soft edge belongs to it from half way to its colour on; even areas belong to it however near
    their colour is to the ground's.
    """
    border = np.concatenate([pixels[[0, -1]].reshape(-1, 3), pixels[:, [0, -1]].reshape(-1, 3)])
    shades, counts = np.unique(border, axis=0, return_counts=True)
    ground = shades[counts.argmax()].astype(float)
    within = np.linalg.norm(border - ground, axis=1) <= NEAR
    if within.mean() < 0.5:
        raise InputError(
            f"{path}: its border has no colour that most of it shares, so ground and object cannot "
            "be told apart; draw the object on transparent ground."
        )
    colours, place, _ = _colours_in(path, pixels, np.ones(pixels.shape[:2], bool))
    distance = np.linalg.norm(colours - ground, axis=1).astype(np.float32)[place]
    differs = distance > NEAR
    if not differs.any():
        return differs
    steps = maximum_filter(pixels, (3, 3, 1)) - minimum_filter(pixels, (3, 3, 1))
    half = np.median(distance[differs]) / 2
    return differs & ((distance > half) | (steps.max(2) <= EVEN))


def _from_colours(path: Path, legend: Mapping[Colour, str]) -> list[tuple[str, np.ndarray]]:
    """A mask for each class of the legend that the picture has; what is transparent is background.

    Each pixel takes the legend's nearest colour: exact ones, and those of anti-aliased edges, which
    are blends of two of the legend's beside one of them. All else is an unknown colour.
    """
    pixels, opaque = _open(path)
    values, place, counts = _colours_in(path, pixels, opaque)
    colours = np.array(list(legend), float)
    distance = np.linalg.norm(values[:, None] - colours, axis=2)
    nearest, exact = distance.argmin(1), distance.min(1) <= NEAR
    near = ~opaque
    near[opaque] = exact[place[opaque]]
    rim = binary_dilation(near, np.ones((3, 3)), RIM)
    inside = np.bincount(place[opaque & ~rim], minlength=len(values)) > 0
    unknown = ~exact & (inside | (~_blends(values, colours) & (counts >= SPECKS)))
    if unknown.any():
        worst = np.flatnonzero(unknown)[np.argsort(-counts[unknown])][:3]
        names = ", ".join(f"#{bytes(values[n].tolist()).hex()} ({counts[n]} pixels)" for n in worst)
        drawn = ", ".join(f"#{bytes(c).hex()} {label}" for c, label in legend.items())
        raise InputError(f"{path} has colours that the legend lacks: {names}; it has {drawn}.")
    indices = np.array([LABELS.index(label) for label in legend.values()], np.uint8)
    labels = np.zeros(opaque.shape, np.uint8)
    labels[opaque] = indices[nearest][place[opaque]]
    return [(LABELS[n], labels == n) for n in np.unique(labels) if n]


def _colours_in(
    path: Path, pixels: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct colours of some pixels, (N, 3), the index of each pixel's among them, (S, S),
    and how many pixels have each, (N,)."""
    codes = np.zeros(where.shape, np.int32)
    for channel in range(3):
        codes = codes << 8 | pixels[..., channel]
    totals = np.bincount(codes[where], minlength=1 << 24)
    used = np.flatnonzero(totals)
    if len(used) > MOST_COLOURS:
        raise InputError(
            f"{path} has {len(used):,} colours, as a photograph; a mask has at most "
            f"{MOST_COLOURS:,}."
        )
    index = np.zeros(1 << 24, np.int32)
    index[used] = np.arange(len(used))
    return np.stack([used >> 16, used >> 8 & 255, used & 255], 1), index[codes], totals[used]


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
    """COCO's annotations of one image, or records of `label`, `segmentation` and, of polygons,
    `size` as [height, width]."""
    content = read_json(path)
    records = content.get("annotations", [content]) if isinstance(content, dict) else content
    sizes = _image_sizes(path, content) if isinstance(content, dict) else {}
    if not isinstance(records, list) or not records:
        raise InputError(f"{path} has no list of masks, nor `annotations` as COCO's files have.")
    found = []
    for number, record in enumerate(records, start=1):
        where = f"{path}, mask {number}"
        if not isinstance(record, dict) or "segmentation" not in record:
            raise InputError(
                f"{where}: expected an object with `label` or COCO's `category_id`, and "
                "`segmentation`, an RLE or polygons with `size`."
            )
        label, segmentation = _label_in(where, record), record["segmentation"]
        size = record.get("size", sizes.get(_hashable(record.get("image_id"))))
        if isinstance(segmentation, dict):
            size = segmentation.get("size")
        try:
            if not isinstance(size, list) or len(size) != 2:
                raise ValueError(f"size {shown(size)}; expected [height, width]")
            check_size(*size[::-1])
            _check_square(path, *size[::-1])
            check_segmentation(segmentation, *size)
        except ValueError as error:
            raise InputError(f"{where}: {error}.") from None
        found.append((label, decode(to_rle(segmentation, *size))))
    return found


def _hashable(value: object) -> object:
    return value if isinstance(value, int | str) else None


def _image_sizes(path: Path, content: dict) -> dict:
    """[height, width] of COCO's image, by its id."""
    images = content.get("images", [])
    if not isinstance(images, list) or len(images) > 1:
        raise InputError(f"{path} has `images` of {_count(images)}: give the masks of one.")
    for category in content["categories"] if isinstance(content.get("categories"), list) else ():
        if isinstance(category, dict) and type(category.get("id")) is int:
            check_category(path, category["id"], category.get("name"))
    return {
        _hashable(image.get("id")): [image.get("height"), image.get("width")]
        for image in images
        if isinstance(image, dict)
    }


def _count(images: object) -> str:
    return f"{len(images)} images" if isinstance(images, list) else "another form"


def _label_in(where: str, record: dict) -> str:
    """The class of a record, by `label` or by COCO's `category_id`."""
    if record.get("label") is None:
        category = record.get("category_id")
        known = BY_COCO_ID.get(category) if type(category) is int else None
        if known is None:
            raise InputError(
                f"{where}: category_id {shown(category)} is none of the VOC classes in COCO; "
                f"give `label`, one of {', '.join(BY_LABEL)}."
            )
        return known.label
    return class_of(record["label"]) or _known(str(record["label"])[:40], where)
