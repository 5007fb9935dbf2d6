"""A part of many: for batch arrays, whose jobs know nothing of each other but their number."""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from tcig.data.errors import InputError

T = TypeVar("T")


class Shard(NamedTuple):
    """Part `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Of `2/8`.

        Raises:
            InputError: it is no such text.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(*map(int, match.groups())) if match else None
        if shard is None or not 1 <= shard.number <= shard.count:
            raise InputError(
                f"--shard {text!r} is no part of a whole: give I/N, as 2/8, counted from 1."
            )
        return shard

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Every `count`-th item, from the `number`-th on."""
        return items[self.number - 1 :: self.count]

    @property
    def suffix(self) -> str:
        """Stands in the name of each file that this part writes alone."""
        return f".{self.number}-of-{self.count}"
