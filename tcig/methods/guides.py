"""Segmentation guides: experts for their classes, chosen by a layout's, and their loss (Eq. 1)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.voc import LABELS
from tcig.models.devices import PLAIN, Compute
from tcig.models.frozen import frozen
from tcig.models.kept import kept
from tcig.models.resizing import resize
from tcig.models.segmentation import Network, deeplabv3_resnet101, miniature
from tcig.models.weights import MINIATURE

Prediction = Literal["softmax", "logits", "sigmoid"]
Over = Literal["layout", "all"]


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
    """Of each plane that the loss compares, its place in `rows`, (P,), ascending."""
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
    planes = guided.owners * logits.shape[1] + guided.channels
    if prediction == "softmax":
        predicted = _SoftmaxPlanes.apply(logits, guided.owners, planes)
    else:
        predicted = logits.flatten(0, 1).index_select(0, planes)
        predicted = predicted.sigmoid() if prediction == "sigmoid" else predicted
    errors = F.mse_loss(predicted, guided.targets, reduction="none").mean((1, 2))
    total = torch.zeros(len(logits), device=logits.device).index_add(0, guided.owners, errors)
    return total / guided.owners.bincount(minlength=len(logits)), logits.detach()


class _SoftmaxPlanes(torch.autograd.Function):
    """Some planes (P, H, W) of a softmax over logits (M, C, H, W).

    Derived automatically, the gradient passes twice more through memory of the logits' size.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, owners: Tensor, planes: Tensor) -> Tensor:
        shares = logits.softmax(1)
        found = shares.flatten(0, 1).index_select(0, planes)
        ctx.save_for_backward(shares, found, owners, planes)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        shares, found, owners, planes = ctx.saved_tensors
        weighted = gradient * found
        sums = torch.zeros_like(shares[:, 0]).index_add_(0, owners, weighted)
        result = shares.mul_(-sums[:, None])
        result.flatten(0, 1).index_add_(0, planes, weighted)
        return result, None, None


def guide_iou(guided: Guided, logits: Tensor) -> Tensor:
    """Mean IoU of the guide's argmax with the target, over the layout's classes it knows, (M,)."""
    found = logits.argmax(1)[guided.owners] == guided.channels[:, None, None]
    truth = guided.targets.bool()
    overlap, union = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
    objects = truth.flatten(1).any(1) & (guided.channels > 0)
    parts = torch.stack([overlap / union.clamp(min=1) * objects, objects.float()])
    sums = torch.zeros(2, len(logits), device=logits.device).index_add(1, guided.owners, parts)
    return sums[0] / sums[1].clamp(min=1)


def summed_loss(
    guided: Sequence[Guided],
    images: Tensor,
    prediction: Prediction,
    compute: Compute = PLAIN,
    measured: bool = False,
) -> tuple[Tensor, Tensor]:
    """`guide_loss` summed over the guides of each sample, (B,), and, where it is `measured`, the
    mean of their `guide_iou`, else 0."""
    total, iou, count = torch.zeros(3, len(images), device=images.device)
    for each in guided:
        loss, logits = guide_loss(each, images, prediction, compute)
        total = total.index_add(0, each.rows, loss)
        if measured:
            iou = iou.index_add(0, each.rows, guide_iou(each, logits))
            count = count.index_add(0, each.rows, torch.ones_like(loss))
    return total, iou / count.clamp(min=1)
