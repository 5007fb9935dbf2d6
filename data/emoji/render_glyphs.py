"""Renders the committed glyphs from their sources; needs resvg-py and the three sources on disk.

    python -m tcig.data.emoji.render_glyphs --noto NotoColorEmoji.ttf \
        --fluent fluentui-emoji/icons/flat --twemoji twemoji/svg

Sources and licences: glyphs/ATTRIBUTION.md. Every glyph is trimmed to its visible pixels and
scaled so that its longer side is 128 px.
"""

import argparse
import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

GLYPHS = {
    "airplane": ("2708", "airplane"),
    "bicycle": ("1f6b2", "bicycle"),
    "bird": ("1f426", "bird"),
    "boat": ("26f5", "sailboat"),
    "bottle": ("1f37e", "bottle-with-popping-cork"),
    "bus": ("1f68c", "bus"),
    "car": ("1f697", "automobile"),
    "cat": ("1f408", "cat"),
    "chair": ("1fa91", "chair"),
    "cow": ("1f404", "cow"),
    "dining table": ("1f37d", "fork-and-knife-with-plate"),
    "dog": ("1f415", "dog"),
    "horse": ("1f40e", "horse"),
    "motorcycle": ("1f3cd", "motorcycle"),
    "person": ("1f9cd", "person-standing-default"),
    "potted plant": ("1fab4", "potted-plant"),
    "sheep": ("1f411", "ewe"),
    "couch": ("1f6cb", "couch-and-lamp"),
    "train": ("1f686", "train"),
    "tv": ("1f4fa", "television"),
}
"""Class -> code point (Noto, Twemoji) and file name (Fluent)."""


def _noto(font: Path, codepoint: str) -> Image.Image:
    canvas = Image.new("RGBA", (160, 160))
    face = ImageFont.truetype(font, 109)  # the font's only bitmap size
    ImageDraw.Draw(canvas).text((10, 10), chr(int(codepoint, 16)), font=face, embedded_color=True)
    return canvas


def _svg(path: Path) -> Image.Image:
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=192, height=192))
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _fit(glyph: Image.Image) -> Image.Image:
    glyph = glyph.crop(glyph.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    scale = 128 / max(glyph.size)
    size = [max(1, round(side * scale)) for side in glyph.size]
    return glyph.resize(size, Image.Resampling.LANCZOS)


def main() -> None:
    """Renders every class in every style."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for source in ("noto", "fluent", "twemoji"):
        parser.add_argument(f"--{source}", type=Path, required=True)
    sources = parser.parse_args()
    out = Path(__file__).parent / "glyphs"
    for label, (codepoint, name) in GLYPHS.items():
        glyphs = {
            "noto": _noto(sources.noto, codepoint),
            "fluent": _svg(sources.fluent / f"{name}.svg"),
            "twemoji": _svg(sources.twemoji / f"{codepoint}.svg"),
        }
        for style, glyph in glyphs.items():
            (out / style).mkdir(parents=True, exist_ok=True)
            _fit(glyph).save(out / style / f"{label.replace(' ', '_')}.png", optimize=True)


if __name__ == "__main__":
    main()
