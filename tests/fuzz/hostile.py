"""Malformed inputs, made from good ones by a seeded generator."""

import copy
import json
import random

VALUES = (
    None, True, -1, 0, 1.5, 10**9, 10**30, -(10**30), 1e308, float("nan"), float("inf"), "", "x",
    "17", "../../etc/passwd", "/etc/passwd", "\ud800", "a\nb", "é" * 300, [], {}, [None], [[]],
    [[[[]]]], [1e9, -1e9] * 4, {"size": [10**6, 10**6], "counts": "0"},
    {"size": [8, 8], "counts": "````````"},
)  # fmt: skip
TEXTS = (
    "[" * 100_000, "9" * 5_000, '{"a":' * 5_000, "null", "", "\x00", "\ufeff", "NaN", "é", "true",
)  # fmt: skip


def places(value, path=()):
    """Every place in nested lists and dictionaries."""
    yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*path, key))


def bent(value, rng: random.Random):
    """A copy of a structure with something at one place replaced, left out or doubled."""
    value = copy.deepcopy(value)
    *path, key = rng.choice([place for place in places(value) if place])
    owner = value
    for step in path:
        owner = owner[step]
    kind = rng.random()
    if kind < 0.2:
        del owner[key]
    elif kind < 0.3 and isinstance(owner, list):
        owner.append(owner[key])
    else:
        owner[key] = rng.choice(VALUES)
    return value


def bent_json(value, rng: random.Random) -> bytes:
    """The JSON of a bent structure, or JSON that is damaged as text."""
    if rng.random() < 0.75:
        return json.dumps(bent(value, rng)).encode()
    return damaged(json.dumps(value).encode(), rng)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes that are cut, flipped, longer, shorter, turned, or replaced."""
    place, count = rng.randrange(max(len(content), 1)), rng.randint(1, 40)
    head, tail, flipped = content[:place], content[place:], bytearray(content)
    for _ in range(count):
        flipped[rng.randrange(len(flipped))] = rng.randrange(256)
    text = rng.choice(TEXTS).encode(errors="surrogatepass")
    kinds = (head, bytes(flipped), head + rng.randbytes(count) + tail, head + tail[count:])
    return rng.choice((*kinds, tail + head, text))
