"""The embedded data set: COCO-format scenes composed of emoji glyphs of the VOC classes."""

from pathlib import Path

FOLDER = Path(__file__).parent / "validation"
"""The shipped validation split, in COCO's own folder shape."""
