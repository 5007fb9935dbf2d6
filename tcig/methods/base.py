"""The interface of methods: options, weights, costs, progress, random numbers.

Three methods that need no model follow: the photographs, the true masks, and a grey image.
"""

import dataclasses
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from tcig.data.files import InputError
from tcig.data.layout import Layout, open_photograph
from tcig.data.voc import COLOURS
from tcig.models.devices import PLAIN, Compute, kept
from tcig.models.weights import identity_of

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """Settings that every method receives."""

    size: int
    """Side of the images, pixels."""
    coco: Path | None = None
    """Folder of the photographs."""
    compute: Compute = PLAIN
    """Where the networks run."""
    stage1: Path | None = None
    """Folder of stage-1 images that rows share; None or without a parent folder: they are not
    stored."""


@dataclass(frozen=True)
class Weights:
    """Marks an option that names weights: `weights: Annotated[str, Weights("diffusion")]`.

    Fetching, costs and a run's record read the mark. An options class may have a method
    `uses(option) -> bool`, which says whether it uses the weights that an option names.
    """

    part: str
    """Key of the identity in a run's record; of a tuple each name follows it."""

    def source(self, name: str) -> str | None:
        """The name as `tcig.models.weights.locate` takes it; None if it does not."""
        return name

    def identity(self, name: str, compute: Compute) -> str:
        """Identity of the weights."""
        return _identity(name)


_identity = kept(identity_of)


def used_weights(options: Any) -> Iterator[tuple[str, str, Weights]]:
    """The weights that options use, also those of options nested in them.

    Yields:
        Key in a run's record, name, and mark.
    """
    hints = typing.get_type_hints(type(options), include_extras=True)
    uses = getattr(options, "uses", None)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if callable(uses) and not uses(field.name):
            continue
        if dataclasses.is_dataclass(value):
            yield from used_weights(value)
        for mark in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(mark, Weights) and isinstance(value, str):
                yield mark.part, value, mark
            elif isinstance(mark, Weights):
                yield from ((f"{mark.part} {name}", name, mark) for name in value)


class Cost(NamedTuple):
    """Work of a run, counted before it."""

    unet: int = 0
    """Evaluations of the UNet on one latent each."""
    iterations: int = 0
    """Steps on one image each in which a loss is differentiated: of stage 1, or guided ones."""


@dataclass(frozen=True)
class NoOptions:
    """The options of a method that has none."""


class Progress:
    """Tells the callback of `Method.generate` which share of a call's `total` steps is done."""

    def __init__(self, callback: Callable[..., None] | None = None, total: int = 1):
        self._callback, self._total, self._done = callback, total, 0

    def step(self, count: int = 1) -> None:
        """Adds `count` finished steps."""
        self._done += count
        if self._callback:
            self._callback("progress", done=min(self._done / self._total, 1.0))

    def over(self, steps: Iterable[T]) -> Iterator[T]:
        """Yields the steps; each is finished when the next is asked for."""
        for step in steps:
            yield step
            self.step()

    def last(self, steps: Iterable[T]) -> T:
        """Runs all steps of a sampler and returns what the last one yields."""
        for each in self.over(steps):
            last = each
        return last


SILENT = Progress()
"""Tells nobody."""


class Method(ABC):
    """Generates images of layouts. A subclass names its `Options`, a frozen dataclass of defaults.

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
        sources = (mark.source(name) for _, name, mark in used_weights(options))
        return tuple(source for source in sources if source is not None)

    @classmethod
    def cost(cls, options: Any, layouts: Sequence[Layout]) -> Cost:
        """Cost of one sample of each layout."""
        return Cost()

    @property
    def weights(self) -> dict[str, str]:
        """Identities of the method's weights by part: other weights make another run."""
        identities: dict[str, str] = {}
        for part, name, mark in used_weights(self.options):
            identity = mark.identity(name, self.context.compute)
            identities[part] = f"{identities[part]} {identity}" if part in identities else identity
        return identities

    @abstractmethod
    def generate(
        self,
        layouts: Sequence[Layout],
        seeds: Sequence[int],
        callback: Callable[..., None] | None = None,
    ) -> list[Image.Image]:
        """Generates one RGB image of `context.size` pixels a side for each layout and its seed.

        It takes any number of layouts. The same layout with the same seed gives the same image in
        every batch. All randomness comes from the sample's seed.

        Args:
            layouts: what to draw.
            seeds: one for each layout.
            callback: if it is not None, `callback("progress", done=0.25)` moves the progress bar to
                a quarter of this call. A method may call it as often as it likes, or never.
        """


def generators(seeds: Sequence[int]) -> list[Generator]:
    """A CPU generator for each seed: it gives the same numbers for every device."""
    return [Generator().manual_seed(seed) for seed in seeds]


def gaussian(generators: Sequence[Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise on the CPU, (len(generators), *shape)."""
    noise = torch.empty(len(generators), *shape)
    for sample, generator in zip(noise, generators, strict=True):
        sample.normal_(generator=generator)
    return noise


def gaussian_on(
    device: torch.device, generators: Sequence[Generator], shape: tuple[int, ...]
) -> Tensor:
    """Standard normal noise on a device, (len(generators), *shape), for what needs much of it.

    On the CPU it is `gaussian`. On another device each sample's generator seeds one of the device's
    own, so that no CPU has to draw millions of numbers in each iteration. The numbers then depend
    on the kind of device.
    """
    if device.type == "cpu":
        return gaussian(generators, shape)
    noise = torch.empty(len(generators), *shape, device=device)
    for sample, generator in zip(noise, generators, strict=True):
        seed = int(torch.randint(2**62, (), generator=generator))
        sample.normal_(generator=Generator(device).manual_seed(seed))
    return noise


class Real(Method):
    """The photographs, cropped to the centre square and resized (Lanczos): the upper bound."""

    reads_captions = False

    def __init__(self, context, options):
        super().__init__(context, options)
        if context.coco is None:
            raise InputError("the row `real` needs the photographs: give --coco FOLDER.")

    def generate(self, layouts, seeds, callback=None):
        """Reads `layout.image` from the COCO folder."""
        coco, size = self.context.coco, self.context.size
        return [open_photograph(layout, coco, size) for layout in layouts]


class Paste(Method):
    """The class maps in VOC's flat colours: an oracle that tests the pipeline."""

    reads_captions = False

    def generate(self, layouts, seeds, callback=None):
        """Colours the layouts' class maps."""
        palette = np.array(COLOURS, np.uint8)
        return [Image.fromarray(palette[layout.class_map(self.context.size)]) for layout in layouts]


class Empty(Method):
    """A grey image, without any object: the lower bound.

    The grey is not (128, 128, 128), which is the car of VOC's palette.
    """

    reads_captions = False

    def generate(self, layouts, seeds, callback=None):
        """Makes every image grey."""
        return [Image.new("RGB", (self.context.size,) * 2, (127, 127, 127)) for _ in layouts]
