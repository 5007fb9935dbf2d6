"""The 20 Pascal VOC classes: index, COCO category id, the word used in prompts, colours.

The index order and the palette are those of the VOC devkit (class 0 is background); the ids and
the words are COCO's (`categories` of instances_val2017.json). Other palettes are those in which
published networks read class maps; none of them gives black, the background, to a class.
"""

from typing import Literal, NamedTuple

import numpy as np

Colour = tuple[int, int, int]
Palette = Literal["coco", "coco-stuff", "ade20k", "voc"]


class VocClass(NamedTuple):
    """One class: its index and its colours in label maps, and its id and word in COCO."""

    index: int
    """1..20."""
    coco_id: int
    label: str
    coco_colour: Colour
    """panopticapi's, as detectron2 has them (0dd2b65, data/datasets/builtin_meta.py) and OneFormer
    draws them: the preprocessor `Seg_OFCOCO` of ControlNet 1.1, whose README names COCO and ADE20K
    as the data of its segmentation model."""
    ade20k_colour: Colour
    """mmsegmentation's of the 150 classes (088894b, mmseg/datasets/ade.py). They have no bird, cat,
    cow, dog, horse and sheep, which are all `animal`, and no train, which is drawn as a bus (our
    choice)."""


ANIMAL = (255, 0, 122)
CLASSES = tuple(
    VocClass(index, *fields)
    for index, fields in enumerate(
        [
            (5, "airplane", (106, 0, 228), (0, 255, 82)),
            (2, "bicycle", (119, 11, 32), (255, 245, 0)),
            (16, "bird", (165, 42, 42), ANIMAL),
            (9, "boat", (0, 0, 192), (173, 255, 0)),
            (44, "bottle", (197, 226, 255), (0, 255, 10)),
            (6, "bus", (0, 60, 100), (255, 0, 245)),
            (3, "car", (0, 0, 142), (0, 102, 200)),
            (17, "cat", (255, 77, 255), ANIMAL),
            (62, "chair", (153, 69, 1), (204, 70, 3)),
            (21, "cow", (120, 166, 157), ANIMAL),
            (67, "dining table", (0, 182, 199), (255, 6, 82)),  # table
            (18, "dog", (0, 226, 252), ANIMAL),
            (19, "horse", (182, 182, 255), ANIMAL),
            (4, "motorcycle", (0, 0, 230), (163, 0, 255)),  # minibike
            (1, "person", (220, 20, 60), (150, 5, 61)),
            (64, "potted plant", (163, 255, 0), (204, 255, 4)),  # plant
            (20, "sheep", (0, 82, 0), ANIMAL),
            (63, "couch", (3, 95, 161), (11, 102, 255)),  # sofa
            (7, "train", (0, 80, 100), (255, 0, 245)),  # its bus: it has no train
            (72, "tv", (183, 130, 88), (0, 255, 194)),  # television receiver
        ],
        start=1,
    )
)
BY_LABEL = {c.label: c for c in CLASSES}
BY_COCO_ID = {c.coco_id: c for c in CLASSES}
VOC_WORDS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""VOC's own words where they differ, as some models name COCO's categories."""
PERSON = BY_LABEL["person"]
NUM_LABELS = len(CLASSES) + 1
INDICES = tuple(range(NUM_LABELS))
"""Values of a label map: background 0 and the classes 1..20."""
LABELS = ("background", *(c.label for c in CLASSES))


def class_of(name: object) -> str | None:
    """The class that a name means, in COCO's or VOC's words and any case; None if it is none."""
    text = name.strip().lower() if isinstance(name, str) else ""
    label = VOC_WORDS.get(text, text)
    return label if label in BY_LABEL else None


def devkit_colour(index: int) -> tuple[int, int, int]:
    """The VOC devkit's colour map: the bits of the index spread over the high bits of r, g, b."""
    rgb = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            rgb[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return tuple(rgb)


COLOURS = tuple(devkit_colour(index) for index in range(NUM_LABELS))


def with_article(noun: str) -> str:
    """ "a cat", "an airplane": the region prompt of the published protocol, "a {label}"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


PALETTES = {
    "coco": {each.label: each.coco_colour for each in CLASSES},
    "coco-stuff": {each.label: devkit_colour(each.coco_id) for each in CLASSES},
    "ade20k": {each.label: each.ade20k_colour for each in CLASSES},
    "voc": {each.label: COLOURS[each.index] for each in CLASSES},
}
"""A colour for each class. T2I-Adapter's palette is coco-stuff, as its author says
(TencentARC/T2I-Adapter, issues 14 and 35): labels 0 to 181 of COCO-Stuff, which are COCO's ids less
one, coloured by PITI's preprocess_mask.py (3fe468f), which gives label n the devkit's colour n + 1.
The miniature adapter was trained in the devkit's."""


def painted(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """Label maps (..., H, W) of classes 0..20 in colours, (..., H, W, 3) uint8."""
    colours = [(0, 0, 0), *(PALETTES[palette][each.label] for each in CLASSES)]
    return np.array(colours, np.uint8)[labels]
