"""Palettes in which published networks read class maps: a colour for each VOC class.

Pixels without a class are black, which none of these palettes gives to a class.
"""

from typing import Literal

import numpy as np

from tcig.data.voc import CLASSES, COLOURS, devkit_colour

Palette = Literal["coco", "coco-stuff", "ade20k", "voc"]

COCO = {
    "airplane": (106, 0, 228),
    "bicycle": (119, 11, 32),
    "bird": (165, 42, 42),
    "boat": (0, 0, 192),
    "bottle": (197, 226, 255),
    "bus": (0, 60, 100),
    "car": (0, 0, 142),
    "cat": (255, 77, 255),
    "chair": (153, 69, 1),
    "cow": (120, 166, 157),
    "dining table": (0, 182, 199),
    "dog": (0, 226, 252),
    "horse": (182, 182, 255),
    "motorcycle": (0, 0, 230),
    "person": (220, 20, 60),
    "potted plant": (163, 255, 0),
    "sheep": (0, 82, 0),
    "couch": (3, 95, 161),
    "train": (0, 80, 100),
    "tv": (183, 130, 88),
}
"""panopticapi's, as detectron2 has them (0dd2b65, data/datasets/builtin_meta.py) and OneFormer
draws them: the preprocessor `Seg_OFCOCO` of ControlNet 1.1, whose README names COCO and ADE20K as
the data of its segmentation model."""
ANIMAL = (255, 0, 122)
ADE20K = {
    "airplane": (0, 255, 82),
    "bicycle": (255, 245, 0),
    "bird": ANIMAL,
    "boat": (173, 255, 0),
    "bottle": (0, 255, 10),
    "bus": (255, 0, 245),
    "car": (0, 102, 200),
    "cat": ANIMAL,
    "chair": (204, 70, 3),
    "cow": ANIMAL,
    "dining table": (255, 6, 82),  # table
    "dog": ANIMAL,
    "horse": ANIMAL,
    "motorcycle": (163, 0, 255),  # minibike
    "person": (150, 5, 61),
    "potted plant": (204, 255, 4),  # plant
    "sheep": ANIMAL,
    "couch": (11, 102, 255),  # sofa
    "train": (255, 0, 245),  # of a bus: it has no train
    "tv": (0, 255, 194),  # television receiver
}
"""mmsegmentation's of the 150 classes (088894b, mmseg/datasets/ade.py). They have no bird, cat,
cow, dog, horse and sheep, which are all `animal`, and no train, which is drawn as a bus (ours)."""
STUFF = {each.label: devkit_colour(each.coco_id) for each in CLASSES}
"""T2I-Adapter's, as its author says (TencentARC/T2I-Adapter, issues 14 and 35): labels 0 to 181 of
COCO-Stuff, which are COCO's ids less one, coloured by PITI's preprocess_mask.py (3fe468f), which
gives label n the devkit's colour n + 1."""
VOC = {each.label: COLOURS[each.index] for each in CLASSES}
"""The devkit's, in which the miniature adapter was trained."""

PALETTES = {"coco": COCO, "coco-stuff": STUFF, "ade20k": ADE20K, "voc": VOC}


def painted(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """Label maps (..., H, W) of classes 0..20 in colours, (..., H, W, 3) uint8."""
    colours = [(0, 0, 0), *(PALETTES[palette][each.label] for each in CLASSES)]
    return np.array(colours, np.uint8)[labels]
