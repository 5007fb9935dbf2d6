"""The seed of a sample."""

import hashlib

TASK = "tcig-1"
"""Version of the benchmark's task; changing it changes every sample."""


def seed_of(layout: str, sample: int) -> int:
    """The seed, 0 .. 2^63 - 1, of sample `sample` of a layout: independent of order and batch."""
    digest = hashlib.sha256(f"{TASK}/{layout}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
