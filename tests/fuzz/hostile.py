"""Malformed inputs, made from good ones by a seeded generator."""

import copy
import json
import random

VALUES = (
    None,
    True,
    -1,
    0,
    1.5,
    10**9,
    10**30,
    -(10**30),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "17",
    "../../etc/passwd",
    "/etc/passwd",
    "\ud800",
    "a\nb",
    "é" * 300,
    [],
    {},
    [None],
    [[]],
    [[[[]]]],
    [1e9, -1e9] * 4,
    {"size": [10**6, 10**6], "counts": "0"},
    {"size": [8, 8], "counts": "````````"},
)
TEXTS = (
    "[" * 100_000,
    "9" * 5_000,
    '{"a":' * 5_000,
    "null",
    "",
    "\x00",
    "\ufeff",
    "NaN",
    "é",
    "true",
)


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
    """Bytes that are cut, flipped, doubled, or replaced."""
    kind = rng.randrange(6)
    place = rng.randrange(max(len(content), 1))
    if kind == 0:
        return content[:place]
    if kind == 1:
        flipped = bytearray(content)
        for _ in range(rng.randint(1, 20)):
            flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        return bytes(flipped)
    if kind == 2:
        return content[:place] + rng.randbytes(rng.randint(1, 40)) + content[place:]
    if kind == 3:
        return content[:place] + content[place + rng.randint(1, 40) :]
    if kind == 4:
        return content[place:] + content[:place]
    return rng.choice(TEXTS).encode(errors="surrogatepass")
