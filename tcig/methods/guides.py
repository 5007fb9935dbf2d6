"""Segmentation guides: experts for their classes, chosen by a layout's, and their loss (Eq. 1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.voc import LABELS
from tcig.methods.draws import gaussian_on
from tcig.methods.warps import inverse_affine, warp
from tcig.models.devices import PLAIN, Compute
from tcig.models.frozen import frozen
from tcig.models.kept import kept
from tcig.models.resizing import resize
from tcig.models.segmentation import Network, deeplabv3_resnet101, miniature
from tcig.models.weights import MINIATURE

Prediction = Literal["softmax", "logits", "sigmoid"]
Over = Literal["layout", "all"]


@dataclass(frozen=True)
class Views:
    """Random views of the image, which the guides see in its place, as CLIP sees cutouts.

    A guide that sees the same pixels in every iteration is fooled by patterns in them that no other
    network takes for an object. The idea is from expectation over transformation (Athalye et
    al. 2018, arXiv 1707.07397), which makes adversarial images that survive transformations. The
    ranges are our choice, by a sweep (results/mini/README.md).
    """

    count: int = 0
    """Views of each image in each iteration; 0 is the paper's guide, which sees the image."""
    flip: bool = True
    """Whether half of the views are mirrored, left to right."""
    rotation: float = 15.0
    """Largest angle, degrees, to both sides."""
    scale: tuple[float, float] = (0.8, 1.3)
    """Smallest and largest factor."""
    shift: float = 0.2
    """Largest shift along each axis, as a share of the image's side."""
    noise: float = 0.05
    """Standard deviation of the Gaussian noise on a view's values in [0, 1]."""

    def __post_init__(self):
        if self.count < 0:
            raise ValueError(f"count must be at least 0, got {self.count}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two positive factors, the smaller first: {self.scale}")
        if min(self.rotation, self.shift, self.noise) < 0:
            raise ValueError("rotation, shift and noise must be at least 0")


def load_guide(source: str, compute: Compute = PLAIN) -> Network:
    """`mini:NAME`, `deeplabv3_resnet101`, or `deeplabv3_resnet101=FILE`.

    Raises:
        InputError: no such guide, or weights that do not load.
    """
    return _load(source, compute)


@kept
def _load(source: str, compute: Compute) -> Network:
    name, _, path = source.partition("=")
    if source.startswith(MINIATURE):
        network = miniature(source.removeprefix(MINIATURE))
    elif name == "deeplabv3_resnet101":
        network = deeplabv3_resnet101(Path(path) if path else None)
    else:
        raise InputError(
            f"no guide {source!r}: there are mini:guide, mini:guide-animals, mini:guide-objects, "
            "deeplabv3_resnet101 and deeplabv3_resnet101=FILE."
        )
    return replace(network, module=frozen(network.module).to(compute.device))


def choose(guides: Sequence[str], layout: Layout, compute: Compute = PLAIN) -> list[str]:
    """The guides that a layout needs: for each of its classes the first that knows it.

    The paper has "a straightforward logic based on the input classes" and no more.

    Raises:
        InputError: a class that no guide knows.
    """
    chosen = {}
    for index in layout.classes:
        expert = next((each for each in guides if index in load_guide(each, compute).labels), None)
        if expert is None:
            known = "; ".join(
                f"{each} knows {_names(load_guide(each, compute))}" for each in guides
            )
            raise InputError(
                f"layout {layout.id}: no guide knows the class {LABELS[index]} ({known}): add one "
                "to the row's guides."
            )
        chosen[expert] = None
    return [each for each in guides if each in chosen]


def _names(network: Network) -> str:
    known = [LABELS[index] for index in network.labels[1:]]
    return f"all {len(known)}" if len(known) == len(LABELS) - 1 else ", ".join(known)


class Guided(NamedTuple):
    """One guide and the samples of a batch that it guides."""

    network: Network
    size: int
    """Side at which images and masks are compared."""
    rows: Tensor
    """Of the samples in the batch, (M,)."""
    owners: Tensor
    """Of each plane that the loss compares, its place in `rows`, (P,)."""
    channels: Tensor
    """And which of the guide's planes it is, (P,)."""
    targets: Tensor
    """Their masks, (P, size, size) of 0 and 1; what the guide does not know is background."""


def prepare_guides(
    guides: Sequence[str],
    layouts: Sequence[Layout],
    size: int | None,
    over: Over,
    compute: Compute = PLAIN,
) -> list[Guided]:
    """The guides that a batch of layouts needs, with their targets.

    Args:
        guides: see `load_guide`; their order is their rank.
        layouts: of the batch.
        size: see `Guided`; None is each guide's own input side.
        over: `layout` compares the planes of the layout's classes and of the background, `all`
            every plane that the guide has.
        compute: where they run.
    """
    needed = [choose(guides, layout, compute) for layout in layouts]
    found = []
    for guide in guides:
        rows = [row for row, chosen in enumerate(needed) if guide in chosen]
        if not rows:
            continue
        network = load_guide(guide, compute)
        side = size or network.size
        labels = torch.tensor(network.labels)
        known = torch.ones(len(rows), len(labels), dtype=torch.bool)
        if over == "layout":
            wanted = [torch.tensor([0, *layouts[row].classes]) for row in rows]
            known = torch.stack([torch.isin(labels, each) for each in wanted])
        owners, channels = known.nonzero().unbind(1)
        maps = torch.stack([torch.from_numpy(layouts[row].class_map(side)) for row in rows])
        maps[~torch.isin(maps, labels)] = 0
        targets = (maps[owners] == labels[channels, None, None]).float()
        parts = (torch.tensor(rows), owners, channels, targets)
        found.append(Guided(network, side, *(part.to(compute.device) for part in parts)))
    return found


def guide_loss(
    guided: Guided, images: Tensor, prediction: Prediction, compute: Compute = PLAIN
) -> tuple[Tensor, Tensor]:
    """Eq. 1: the mean squared difference of predicted and target masks.

    The paper names neither the form of the predicted mask m_p nor the resolution.

    Args:
        guided: the guide and its samples.
        images: of the batch, (B, 3, H, W) in [0, 1], enlarged (bilinear) to the guide's size.
        prediction: the form of m_p.
        compute: in what arithmetic the guide runs.

    Returns:
        The loss of each of its samples, (M,), and their logits without gradient.
    """
    size = (guided.size, guided.size)
    seen = images[guided.rows]
    if seen.shape[-2:] != size:
        seen = resize(seen, size, antialias=True)
    with compute.autocast():
        logits = guided.network.module(seen)
    logits = logits.to(images.dtype)
    if prediction == "softmax":
        masks = logits.softmax(1)
    else:
        masks = logits.sigmoid() if prediction == "sigmoid" else logits
    planes = guided.owners * logits.shape[1] + guided.channels
    predicted = masks.flatten(0, 1).index_select(0, planes)
    errors = F.mse_loss(predicted, guided.targets, reduction="none").mean((1, 2))
    total = torch.zeros(len(logits), device=logits.device).index_add(0, guided.owners, errors)
    return total / guided.owners.bincount(minlength=len(logits)), logits.detach()


def guide_iou(guided: Guided, logits: Tensor) -> Tensor:
    """Mean IoU of the guide's argmax with the target, over the layout's classes it knows, (M,)."""
    found = logits.argmax(1)[guided.owners] == guided.channels[:, None, None]
    truth = guided.targets.bool()
    overlap, union = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
    objects = truth.flatten(1).any(1) & (guided.channels > 0)
    parts = torch.stack([overlap / union.clamp(min=1) * objects, objects.float()])
    sums = torch.zeros(2, len(logits), device=logits.device).index_add(1, guided.owners, parts)
    return sums[0] / sums[1].clamp(min=1)


def see_views(
    guided: Sequence[Guided], images: Tensor, views: Views, generators: Sequence[Generator]
) -> tuple[list[Guided], Tensor]:
    """Makes random views of a batch, and of the guides' targets by the same maps.

    Beyond its border an image is mirrored, and so are its masks.

    Args:
        guided: the guides of the batch.
        images: (B, 3, S, S) in [0, 1].
        views: their number n for each image, and the transformations.
        generators: one for each sample, on the CPU.

    Returns:
        The guides with the views as their samples, and the views, (B n, 3, S, S): those of an image
        one after another.
    """
    count, side = views.count, images.shape[-1]
    numbers = torch.stack([torch.rand(count, 5, generator=each) for each in generators])
    numbers = numbers.flatten(0, 1)
    angle, shift, scale, mirrored = numbers.split((1, 2, 1, 1), 1)
    angle = math.radians(views.rotation) * (2 * angle[:, 0] - 1)
    shift = 2 * views.shift * (2 * shift - 1)
    smallest, largest = views.scale
    scale = smallest + (largest - smallest) * scale[:, 0]
    maps = inverse_affine(angle, torch.zeros_like(angle), shift, scale)
    if views.flip:
        maps[:, :, 0] *= torch.where(mirrored < 0.5, -1, 1)
    maps = maps.unflatten(0, (-1, count)).to(images.device)
    seen = warp(images, maps, side, outside="reflection")
    if views.noise:
        noise = gaussian_on(images.device, generators, (count, 3, side, side)).flatten(0, 1)
        seen = seen + views.noise * noise
    number = torch.arange(count, device=images.device)
    guides = []
    for guide in guided:
        masks, maps_of_planes = guide.targets[:, None], maps[guide.rows[guide.owners]]
        targets = warp(masks, maps_of_planes, guide.size, mode="nearest", outside="reflection")
        guides.append(
            guide._replace(
                rows=(guide.rows[:, None] * count + number).flatten(),
                owners=(guide.owners[:, None] * count + number).flatten(),
                channels=guide.channels.repeat_interleave(count),
                targets=targets[:, 0],
            )
        )
    return guides, seen


def summed_loss(
    guided: Sequence[Guided],
    images: Tensor,
    prediction: Prediction,
    compute: Compute = PLAIN,
    measured: bool = False,
    views: Views = Views(),
    generators: Sequence[Generator] = (),
) -> tuple[Tensor, Tensor]:
    """Sums `guide_loss` over the guides of each sample, (B,).

    Args:
        guided: the guides of the batch.
        images: (B, 3, H, W) in [0, 1].
        prediction: see `guide_loss`.
        compute: see `guide_loss`.
        measured: whether IoU is wanted.
        views: that the guides see; the loss and the IoU are means over them.
        generators: one for each sample, which draw the views.

    Returns:
        The sums, and the means of `guide_iou` over the guides, (B,), 0 where it is not `measured`.
    """
    batch = len(images)
    if views.count:
        guided, images = see_views(guided, images, views, generators)
    total, iou, count = torch.zeros(3, len(images), device=images.device)
    for each in guided:
        loss, logits = guide_loss(each, images, prediction, compute)
        total = total.index_add(0, each.rows, loss)
        if measured:
            iou = iou.index_add(0, each.rows, guide_iou(each, logits))
            count = count.index_add(0, each.rows, torch.ones_like(loss))
    iou = iou / count.clamp(min=1)
    return total.view(batch, -1).mean(1), iou.view(batch, -1).mean(1)
