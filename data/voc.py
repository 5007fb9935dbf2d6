"""The 20 Pascal VOC classes: index, COCO category id, the word used in prompts, colour.

The index order and the palette are those of the VOC devkit (class 0 is background); the ids and
the words are COCO's (`categories` of instances_val2017.json).
"""

from typing import NamedTuple


class VocClass(NamedTuple):
    """One class: `index` 1..20 in label maps, `coco_id`, and `label`, COCO's word for it."""

    index: int
    coco_id: int
    label: str


CLASSES = tuple(
    VocClass(index, coco_id, label)
    for index, (coco_id, label) in enumerate(
        [
            (5, "airplane"),
            (2, "bicycle"),
            (16, "bird"),
            (9, "boat"),
            (44, "bottle"),
            (6, "bus"),
            (3, "car"),
            (17, "cat"),
            (62, "chair"),
            (21, "cow"),
            (67, "dining table"),
            (18, "dog"),
            (19, "horse"),
            (4, "motorcycle"),
            (1, "person"),
            (64, "potted plant"),
            (20, "sheep"),
            (63, "couch"),
            (7, "train"),
            (72, "tv"),
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
