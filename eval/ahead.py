"""Work in a thread beside its consumer's."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Made = TypeVar("Item"), TypeVar("Made")
AHEAD = 2
"""Items that wait, done or begun: enough that neither side stands still for one slow item."""


def ahead(work: Callable[[Item], Made], items: Iterable[Item], name: str) -> Iterator[Made]:
    """As `map`, in order, but up to `AHEAD` items are worked on before they are asked for.

    What is begun is ended, also where the consumer, `items` or other work raises.

    Args:
        work: called in one thread, item after item.
        items: drawn from in the consumer's thread.
        name: of the thread.
    """
    waiting = deque()
    with ThreadPoolExecutor(1, name) as thread:
        for item in items:
            waiting.append(thread.submit(work, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
