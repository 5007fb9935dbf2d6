"""Composes one scene of emoji glyphs with exact masks and captions.

A scene is a function of (split, index) alone. All randomness comes from `random.Random` seeded by
a string and all drawing is Pillow's integer resampling or integer arithmetic, so that the shipped
files can be made again byte for byte.
"""

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from tcig.data.voc import BY_LABEL, CLASSES, PERSON, with_article

SIZE = 128
STYLES = ("noto", "fluent", "twemoji")
SPLITS = ("training", "tuning", "validation")
OPAQUE = 127
"""A pixel belongs to an object where its glyph's alpha is above this."""

# phrase, colour at the top, at the horizon, below it, at the bottom
BACKGROUNDS = (
    ("on a green field", (110, 170, 235), (205, 230, 250), (120, 185, 80), (60, 130, 45)),
    ("in the snow", (150, 180, 215), (215, 225, 238), (240, 244, 250), (205, 215, 230)),
    ("on a sandy beach", (90, 175, 230), (160, 215, 235), (235, 215, 165), (205, 175, 120)),
    ("on a city street", (150, 160, 175), (190, 195, 200), (95, 95, 100), (60, 60, 66)),
    ("on the water", (140, 195, 240), (215, 235, 245), (40, 115, 175), (15, 65, 125)),
    ("in the desert at sunset", (235, 120, 80), (250, 195, 120), (200, 130, 75), (135, 80, 50)),
    ("on a wooden floor", (230, 220, 200), (215, 200, 175), (165, 115, 70), (125, 80, 45)),
    ("in the dark", (12, 14, 40), (38, 38, 75), (32, 44, 38), (14, 22, 18)),
)
COUNTS = {0: 3, 1: 12, 2: 33, 3: 27, 4: 14, 5: 7, 6: 4}
"""Weight of each number of objects above 5% of the image; the design's filter keeps 2 to 4."""
PERSON_SHARE, SMALL_SHARE, CROWD_SHARE = 0.22, 0.30, 0.06
MAX_OVERLAP = 0.08
"""Of an object's visible area, that any one object drawn later may hide."""
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"sheep": "sheep", "bus": "buses", "couch": "couches", "person": "people"}


@dataclass(frozen=True)
class Thing:
    """One annotated object: `mask` (SIZE, SIZE) bool holds its visible pixels, never none."""

    label: str
    mask: np.ndarray
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """`image` (SIZE, SIZE, 3) uint8, `things` from back to front, `captions` the fullest first."""

    image: np.ndarray
    things: tuple[Thing, ...]
    captions: tuple[str, ...]

    def label_map(self) -> np.ndarray:
        """Class index of each pixel, (SIZE, SIZE) uint8, 0 for background."""
        labels = np.zeros((SIZE, SIZE), np.uint8)
        for thing in self.things:
            labels[thing.mask] = BY_LABEL[thing.label].index
        return labels


def scene(split: str, index: int, styles: tuple[str, ...] = ("noto",)) -> Scene:
    """Composes scene `index` of `split`; each object's glyph style is drawn from `styles`."""
    rng = random.Random(f"tcig-emoji-1/{split}/{index}")
    phrase, *colours = rng.choice(BACKGROUNDS)
    canvas = _background(rng, colours)
    placed: list[tuple[str, np.ndarray, bool]] = []
    for label, share, crowd in _plan(rng):
        style = rng.choice(styles)
        for shrink in (1, 0.8, 0.64, 0.51):
            draft = _crowd(rng, label, style) if crowd else _pose(rng, label, style, share * shrink)
            mask = _place(rng, canvas, draft, placed)
            if mask is not None:
                placed = [(name, old & ~mask, many) for name, old, many in placed]
                placed.append((label, mask, crowd))
                break
    things = tuple(Thing(*item) for item in placed)
    return Scene(np.asarray(canvas), things, _captions(rng, things, phrase))


def portrait(split: str, index: int, styles: tuple[str, ...] = ("noto",)) -> Scene:
    """Composes portrait `index` of `split`: one object alone, 8% to 55% of the image.

    The classes take turns: portrait `index` shows class `index % 20`. The last caption is the
    prompt of a region, "a {label}".
    """
    rng, phrase, canvas = _backdrop(split, index)
    label = CLASSES[index % len(CLASSES)].label
    share = 0.08 * (0.55 / 0.08) ** rng.random()
    mask = None
    while mask is None:
        mask = _place(rng, canvas, _pose(rng, label, rng.choice(styles), share), [])
        share *= 0.8
    name = with_article(label)
    captions = (f"{name} {phrase}", f"a photo of {name}", name)
    return Scene(np.asarray(canvas), (Thing(label, mask),), captions)


def backdrop(split: str, index: int) -> np.ndarray:
    """The background of portrait `index` without its object, (SIZE, SIZE, 3) uint8."""
    return np.asarray(_backdrop(split, index)[2])


def _backdrop(split: str, index: int) -> tuple[random.Random, str, Image.Image]:
    rng = random.Random(f"tcig-emoji-1/portrait/{split}/{index}")
    phrase, *colours = rng.choice(BACKGROUNDS)
    return rng, phrase, _background(rng, colours)


def _plan(rng: random.Random) -> list[tuple[str, float, bool]]:
    """Labels, shares of the image's area and crowd flags; large objects first."""
    labels = [c.label for c in CLASSES if c is not PERSON]
    count = rng.choices(list(COUNTS), list(COUNTS.values()))[0]
    largest = min(0.40, 0.80 / max(count, 1))
    plan: list[tuple[str, float, bool]] = []
    for _ in range(count):
        again = plan and rng.random() < 0.15
        label = plan[-1][0] if again else rng.choice(labels)
        plan.append((label, 0.058 * (largest / 0.058) ** rng.random(), False))
    plan.sort(key=lambda item: -item[1])
    if rng.random() < PERSON_SHARE:
        plan += [(PERSON.label, rng.uniform(0.03, 0.12), False) for _ in range(rng.randint(1, 2))]
    if rng.random() < CROWD_SHARE:
        plan.append((rng.choice([*labels, PERSON.label]), 0.0, True))
    if rng.random() < SMALL_SHARE:
        small = [rng.choice(labels) for _ in range(rng.randint(1, 3))]
        plan += [(label, rng.uniform(0.008, 0.045), False) for label in small]
    return plan


def _background(rng: random.Random, colours: list[tuple[int, int, int]]) -> Image.Image:
    horizon = rng.randint(40, 80)
    top, above, below, bottom = (np.array(c, np.int32) for c in colours)
    rows = np.arange(SIZE, dtype=np.int32)[:, None]
    sky = top + (above - top) * rows // horizon
    ground = below + (bottom - below) * (rows - horizon) // (SIZE - horizon)
    column = np.where(rows < horizon, sky, ground)
    noise = Image.frombytes("L", (7, 7), rng.randbytes(49))
    noise = np.asarray(noise.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.int32)
    shade = (noise - 128) // 7 + rng.randint(-10, 10)
    pixels = np.clip(column[:, None, :] + shade[:, :, None], 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


@cache
def _glyph(label: str, style: str) -> tuple[Image.Image, int]:
    """The glyph (RGBA, longer side 128) and its number of opaque pixels."""
    path = Path(__file__).parent / "glyphs" / style / f"{label.replace(' ', '_')}.png"
    with Image.open(path) as file:
        glyph = file.convert("RGBA")
    return glyph, int((np.asarray(glyph)[..., 3] > OPAQUE).sum())


def _pose(rng: random.Random, label: str, style: str, share: float) -> Image.Image:
    """The glyph scaled to `share` of the image's area, flipped, rotated and lit at random."""
    glyph, opaque = _glyph(label, style)
    scale = min((share * SIZE * SIZE / opaque) ** 0.5, 0.92 * SIZE / max(glyph.size))
    size = [max(2, round(side * scale)) for side in glyph.size]
    glyph = glyph.resize(size, Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    glyph = glyph.rotate(rng.randint(-12, 12), Image.Resampling.BICUBIC, expand=True)
    alpha = glyph.getchannel("A")
    glyph = ImageEnhance.Brightness(glyph.convert("RGB")).enhance(rng.uniform(0.88, 1.12))
    glyph.putalpha(alpha)
    return glyph.crop(glyph.getbbox())


def _crowd(rng: random.Random, label: str, style: str) -> Image.Image:
    """A row of six small glyphs that share one annotation, as COCO's crowds do."""
    glyphs = [_pose(rng, label, style, 0.012) for _ in range(6)]
    step = max(glyph.width for glyph in glyphs) * 3 // 4
    size = (step * 5 + max(g.width for g in glyphs), max(g.height for g in glyphs))
    group = Image.new("RGBA", size)
    for number, glyph in enumerate(glyphs):
        group.alpha_composite(glyph, (number * step, size[1] - glyph.height))
    return group


def _place(rng, canvas: Image.Image, glyph: Image.Image, placed: list) -> np.ndarray | None:
    """Pastes a glyph where it hides little of each object there, in ten trials.

    Returns its mask (SIZE, SIZE) bool, or None if no place was found; `canvas` is changed.
    """
    if glyph.width > SIZE or glyph.height > SIZE:
        return None
    opaque = np.asarray(glyph)[..., 3] > OPAQUE
    for _ in range(10):
        left, top = rng.randint(0, SIZE - glyph.width), rng.randint(0, SIZE - glyph.height)
        mask = np.zeros((SIZE, SIZE), bool)
        mask[top : top + glyph.height, left : left + glyph.width] = opaque
        if all((old & mask).sum() <= MAX_OVERLAP * old.sum() for _, old, _ in placed):
            canvas.paste(glyph, (left, top), glyph)
            return mask
    return None


def _captions(rng: random.Random, things: tuple[Thing, ...], phrase: str) -> tuple[str, ...]:
    """All objects, largest first; then in another order, "a photo of ..."."""
    areas: dict[str, int] = {}
    for thing in things:
        areas[thing.label] = areas.get(thing.label, 0) + int(thing.mask.sum())
    names = []
    for label in sorted(areas, key=lambda name: -areas[name]):
        same = [thing for thing in things if thing.label == label]
        plural = PLURALS.get(label, f"{label}s")
        if any(thing.crowd for thing in same):
            names.append(f"many {plural}")
        elif len(same) > 1:
            names.append(f"{NUMBERS[len(same)]} {plural}")
        else:
            names.append(with_article(label))
    shuffled = rng.sample(names, len(names))
    return f"{_listed(names)} {phrase}", f"a photo of {_listed(shuffled)} {phrase}"


def _listed(names: list[str]) -> str:
    if not names:
        return "nothing"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
