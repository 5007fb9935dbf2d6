"""Masks that a user drew -> a layout: a coloured picture, a picture for each object, or JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageColor
from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter

from tcig.data.coco import check_category, check_segmentation
from tcig.data.files import InputError, encodable, read_json, shown
from tcig.data.layout import Layout, Region
from tcig.data.masks import decode, encode, to_rle
from tcig.data.pictures import eight_bits, open_picture
from tcig.data.voc import BY_COCO_ID, BY_LABEL, COLOURS, LABELS, Colour, class_of

Mask = tuple[str, np.ndarray]
"""A class and its mask, (S, S) bool."""
BACKGROUND = LABELS[0]
PALETTE = dict(zip(COLOURS, LABELS, strict=True)) | {(255, 255, 255): BACKGROUND}
"""VOC's palette, with white for the background too."""
NEAR = 24
"""Distance in RGB within which a pixel has a colour (our choice)."""
RIM = 2
"""Pixels from a known colour up to which a mixed colour is a soft edge (our choice)."""
MAX_COLOURS = 200_000
"""Colours of a mask; soft edges and JPEG have thousands (our choice)."""
OPAQUE = 128
"""Alpha from which a pixel is drawn; below it is background (our choice)."""
EVEN = 4
"""Levels of a channel within which neighbours are an even area, not a soft edge (our choice)."""


def drawn_layout(caption: str, masks: Sequence[Path], legend: Mapping[Colour, str]) -> Layout:
    """The layout of a prompt and its masks.

    Args:
        caption: the prompt of the whole image.
        masks: one coloured picture; or pictures named after their classes (`cat.png`, `cat-2.png`)
            or written by `tcig layouts --export`, of one object each; or one JSON of annotations
            with COCO's segmentations.
        legend: class of each colour of a coloured picture; empty: `PALETTE`.
            Where it is given, one picture is a coloured one, whatever its name.

    Raises:
        InputError: a file cannot be read, is not a square or of another size than the others; a
            class or a colour is unknown; nothing is drawn.
    """
    if not encodable(caption):
        raise InputError(f"the prompt {caption!r} is not Unicode; type it again.")
    if not masks:
        raise InputError("give --mask FILE: a coloured picture, one for each object, or JSON.")
    first = masks[0]
    if first.suffix.lower() == ".json":
        if len(masks) > 1:
            raise InputError(f"{masks[1]}: only one JSON of masks is taken.")
        objects = _from_json(first)
    elif len(masks) == 1 and (legend or _class_of_picture(first)[0] is None):
        objects = _from_colours(first, legend or PALETTE)
    else:
        objects = [_from_picture(path) for path in masks]
    sides = {mask.shape for _, mask in objects}
    if len(sides) > 1:
        sizes = " and ".join(f"{width}x{height}" for height, width in sorted(sides))
        raise InputError(f"the masks are of different sizes ({sizes}): draw them on one.")
    objects = [(label, mask) for label, mask in objects if mask.any()]
    if not objects:
        raise InputError(f"{first} has no object: all of it is background.")
    regions = tuple(
        Region(annotation=number, label=label, mask=encode(mask))
        for number, (label, mask) in enumerate(objects, start=1)
    )
    side = len(objects[0][1])
    return Layout(id="drawn", image="", side=side, caption=caption, regions=regions)


def parse_legend(entries: Sequence[str]) -> dict[Colour, str]:
    """`COLOUR=LABEL` entries, a colour being #rrggbb, r,g,b or a CSS name; empty without entries.

    Black and white are the background unless an entry says otherwise.

    Raises:
        InputError: an unknown colour or class, or a duplicate colour.
    """
    legend: dict[Colour, str] = {}
    for entry in entries:
        text, _, label = entry.rpartition("=")
        text, label = text.strip(), label.strip()
        try:
            colour = ImageColor.getrgb(f"rgb({text})" if "," in text else text)[:3]
            bytes(colour)  # Pillow takes 300,0,0
        except ValueError:
            raise InputError(
                f"--legend {entry!r}: give COLOUR=LABEL, a colour as #rrggbb, r,g,b with values "
                "from 0 to 255, or a name."
            ) from None
        if colour in legend:
            raise InputError(f"--legend {entry!r}: duplicate colour.")
        if label not in LABELS:
            raise _unknown_class(f"--legend {entry!r}", label)
        legend[colour] = label
    return {(0, 0, 0): BACKGROUND, (255, 255, 255): BACKGROUND} | legend if legend else {}


def _unknown_class(where: object, label: object) -> InputError:
    return InputError(f"{where}: unknown class {shown(label)}; available: {', '.join(BY_LABEL)}.")


def _open(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colours, (S, S, 3) uint8, and where they are opaque, (S, S) bool."""
    picture = eight_bits(open_picture(path), path)
    _check_square(path, *picture.size)
    pixels = np.asarray(picture.convert("RGBA"))
    return pixels[..., :3], pixels[..., 3] >= OPAQUE


def _check_square(where: object, width: int, height: int) -> None:
    if width != height:
        raise InputError(f"{where} is {width}x{height}; expected a square, crop it to one.")


def _from_colours(path: Path, legend: Mapping[Colour, str]) -> list[Mask]:
    """A mask for each class of the legend that the picture has; what is transparent is background.

    Each pixel takes the legend's nearest colour. Mixed colours are the soft edges of known ones;
    further inside, they are unknown.
    """
    pixels, opaque = _open(path)
    codes = np.where(opaque, pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32), 0)
    shades, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if len(shades) > MAX_COLOURS:
        raise InputError(
            f"{path} has {len(shades):,} colours, as a photograph; a mask has at most "
            f"{MAX_COLOURS:,}."
        )
    colours = np.stack([shades >> 16, shades >> 8 & 255, shades & 255], 1)
    distance = np.linalg.norm(colours[:, None] - np.array([*legend]), axis=2)
    known = (distance.min(1) <= NEAR)[places]
    edges = binary_dilation(known | ~opaque, np.ones((3, 3)), RIM)
    unknown = np.unique(places[opaque & ~edges])
    if len(unknown):
        worst = unknown[np.argsort(-counts[unknown])][:3]
        names = ", ".join(f"#{shades[n]:06x} ({counts[n]} pixels)" for n in worst)
        entries = ", ".join(f"#{bytes(c).hex()} {label}" for c, label in legend.items())
        raise InputError(f"{path} has colours that the legend lacks: {names}; it has {entries}.")
    nearest = np.array([LABELS.index(label) for label in legend.values()])[distance.argmin(1)]
    labels = np.where(opaque, nearest[places], 0)
    return [(LABELS[n], labels == n) for n in np.unique(labels) if n]


def _from_picture(path: Path) -> Mask:
    """The one object of a picture: what is opaque or, if all is, what differs from its border."""
    label, exported = _class_of_picture(path)
    if label is None:
        raise InputError(
            f"{path} is not named after a class, as cat.png or cat-2.png are; available: "
            f"{', '.join(BY_LABEL)}."
        )
    pixels, opaque = _open(path)
    if exported:
        return label, pixels[..., 0] >= OPAQUE
    return label, opaque if not opaque.all() else _foreground(path, pixels)


def _class_of_picture(path: Path) -> tuple[str | None, bool]:
    """The class of a picture, and whether `tcig layouts --export` wrote it.

    The class of an exported mask is in the layouts.json beside its folder; that of any other
    picture is in its name, as `cat`, `cat-2`, `potted_plant`.
    """
    folder = path.absolute().parent
    index = folder.parent / "layouts.json"
    if folder.name == "masks" and index.is_file():
        try:
            regions = [region for layout in read_json(index) for region in layout["regions"]]
            labels = {region["mask"]: region["label"] for region in regions}
        except (KeyError, TypeError):
            raise InputError(
                f"{index} is not the index of an export; export the layouts again."
            ) from None
        if label := class_of(labels.get(f"masks/{path.name}")):
            return label, True
    stem = path.stem.rstrip("0123456789").rstrip("-_ ") or path.stem
    label = stem.lower().replace("_", " ").replace("-", " ")
    return (label if label in BY_LABEL else None), False


def _foreground(path: Path, pixels: np.ndarray) -> np.ndarray:
    """The object of an opaque picture: what differs from the most frequent colour of the border.

    A soft edge belongs to it from half way to its colour on; even areas belong to it however near
    their colour is to the border's.
    """
    border = np.concatenate([pixels[[0, -1]].reshape(-1, 3), pixels[:, [0, -1]].reshape(-1, 3)])
    shades, counts = np.unique(border, axis=0, return_counts=True)
    ground = shades[counts.argmax()].astype(np.float32)
    if (np.linalg.norm(border - ground, axis=1) <= NEAR).mean() < 0.5:
        raise InputError(
            f"{path}: its border has no colour that most of it shares, so ground and object cannot "
            "be told apart; draw the object on transparent ground."
        )
    distance = np.linalg.norm(pixels - ground, axis=2)
    differs = distance > NEAR
    if not differs.any():
        return differs
    steps = maximum_filter(pixels, (3, 3, 1)) - minimum_filter(pixels, (3, 3, 1))
    half = np.median(distance[differs]) / 2
    return differs & ((distance > half) | (steps.max(2) <= EVEN))


def _from_json(path: Path) -> list[Mask]:
    """COCO's annotations of one image, or records of `label`, `segmentation` and, of polygons,
    `size` as [height, width]."""
    content, image = read_json(path), {}
    records = content
    if isinstance(content, dict):
        records, image = content.get("annotations", [content]), _image(path, content)
    if not isinstance(records, list) or not records:
        raise InputError(f"{path} has no list of masks, nor `annotations` as COCO's files have.")
    return [_from_record(f"{path}, mask {n}", each, image) for n, each in enumerate(records, 1)]


def _image(path: Path, content: dict) -> dict:
    """The image of COCO's annotations, whose categories are checked; empty if it is not there."""
    images, categories = content.get("images", [{}]), content.get("categories")
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], dict):
        raise InputError(f"{path}: `images` must be a list of one image; give the masks of one.")
    for category in categories if isinstance(categories, list) else ():
        if isinstance(category, dict) and type(category.get("id")) is int:
            check_category(path, category["id"], category.get("name"))
    return images[0]


def _from_record(where: str, record: object, image: dict) -> Mask:
    """One record's class, by `label` or COCO's `category_id`, and its mask."""
    if not isinstance(record, dict) or "segmentation" not in record:
        raise InputError(
            f"{where}: expected an object with `label` or COCO's `category_id`, and "
            "`segmentation`, an RLE or polygons with `size`."
        )
    category = record.get("category_id")
    label = record.get("label")
    if label is None and type(category) is int and category in BY_COCO_ID:
        label = BY_COCO_ID[category].label
    if class_of(label) is None:
        raise _unknown_class(where, f"category_id {category}" if label is None else label)
    segmentation, size = record["segmentation"], record.get("size")
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
    elif size is None and image and record.get("image_id") == image.get("id"):
        size = [image.get("height"), image.get("width")]
    try:
        if not isinstance(size, list) or len(size) != 2:
            raise ValueError(f"size {shown(size)}; expected [height, width]")
        check_segmentation(segmentation, *size)
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from None
    _check_square(where, *size[::-1])
    return class_of(label), decode(to_rle(segmentation, *size))
