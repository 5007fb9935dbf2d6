"""What a method is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from PIL import Image

from tcig.data.layout import Layout
from tcig.models.devices import PLAIN, Compute

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """What every method is given: the canvas, the folder of the photographs if there is one, and
    where its networks run."""

    size: int
    coco: Path | None = None
    compute: Compute = PLAIN


class Cost(NamedTuple):
    """What takes the time of a run, counted before it."""

    unet: int = 0
    """Evaluations of the UNet on one latent each."""
    iterations: int = 0
    """Steps on one image each in which a loss is differentiated: of stage 1, or guided ones."""
    control: int = 0
    """Evaluations of a ControlNet on one latent each."""


@dataclass(frozen=True)
class NoOptions:
    """The options of a method that has none."""


class Progress:
    """Tells a method's callback what share of a call's steps is done.

    Args:
        callback: of `Method.generate`; None: nobody is told.
        total: steps of the call.
    """

    def __init__(self, callback: Callable[..., None] | None = None, total: int = 1):
        self._callback, self._total, self._done = callback, total, 0

    def step(self, count: int = 1) -> None:
        """So many more steps are done."""
        self._done += count
        if self._callback:
            self._callback("progress", done=min(self._done / self._total, 1.0))

    def over(self, steps: Iterable[T]) -> Iterator[T]:
        """The steps, each done when the next is asked for."""
        for each in steps:
            yield each
            self.step()


class Method(ABC):
    """Draws layouts. A subclass names its `Options`, a frozen dataclass with defaults.

    `version` changes when a change of code moves results: runs of another version are not reused.
    `reads_captions` says that it needs the layouts' captions.
    """

    Options: ClassVar[type] = NoOptions
    version: ClassVar[int] = 1
    reads_captions: ClassVar[bool] = True

    def __init__(self, context: Context, options: Any):
        self.context, self.options = context, options

    @classmethod
    def sources(cls, options: Any) -> tuple[str, ...]:
        """The weights that it would load, as `tcig.models.weights.locate` takes them."""
        return ()

    @classmethod
    def cost(cls, options: Any, layouts: Sequence[Layout]) -> Cost:
        """Of one sample of each layout."""
        return Cost()

    @property
    def weights(self) -> dict[str, str]:
        """Identities of the method's weights by part: other weights make another run."""
        return {}

    @abstractmethod
    def generate(
        self,
        layouts: Sequence[Layout],
        seeds: Sequence[int],
        callback: Callable[..., None] | None = None,
    ) -> list[Image.Image]:
        """Draws one RGB image of `context.size` pixels a side for each layout and its seed.

        Any number of layouts at once; the same layout with the same seed gives the same image
        whatever stands beside it. All randomness comes from the sample's seed.

        Args:
            layouts: what to draw.
            seeds: of each layout.
            callback: if it is not None, `callback("progress", done=0.25)` moves the progress bar to
                a quarter of this call. A method may call it as often as it likes, or never.
        """
