"""Segmentation guides: experts for their classes, chosen by a layout's, and their loss (Eq. 1)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tcig.data.errors import InputError
from tcig.data.layout import Layout
from tcig.data.voc import LABELS
from tcig.models.devices import device
from tcig.models.frozen import fold_batchnorms
from tcig.models.segmentation import Network, deeplabv3_resnet101, miniature
from tcig.models.weights import MINIATURE

Prediction = Literal["softmax", "logits", "sigmoid"]
Over = Literal["layout", "all"]


@cache
def load_guide(source: str) -> Network:
    """`mini:NAME`, `deeplabv3_resnet101`, or `deeplabv3_resnet101=FILE`.

    Raises:
        InputError: no such guide, or weights that do not load.
    """
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
    return replace(network, module=fold_batchnorms(network.module).to(device()))


def choose(guides: Sequence[str], layout: Layout) -> list[str]:
    """The guides that a layout needs: for each of its classes the first that knows it.

    The paper has "a straightforward logic based on the input classes" and no more.

    Raises:
        InputError: a class that no guide knows.
    """
    chosen = {}
    for index in layout.classes:
        expert = next((each for each in guides if index in load_guide(each).labels), None)
        if expert is None:
            known = "; ".join(f"{each} knows {_names(load_guide(each))}" for each in guides)
            raise InputError(
                f"layout {layout.id}: no guide knows the class {LABELS[index]} ({known}): add one "
                "to first.guides."
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
    targets: Tensor
    """Their masks, one plane for each of the guide's labels, (M, C, size, size) of 0 and 1; what
    the guide does not know is background."""
    compared: Tensor
    """The planes that the loss compares, (M, C, 1, 1) of 0 and 1."""


def prepare_guides(
    guides: Sequence[str], layouts: Sequence[Layout], size: int | None, over: Over
) -> list[Guided]:
    """The guides that a batch of layouts needs, with their targets.

    Args:
        guides: see `load_guide`; their order is their rank.
        layouts: of the batch.
        size: see `Guided`; None is each guide's own input side.
        over: `layout` compares the planes of the layout's classes and of the background, `all`
            every plane that the guide has.
    """
    needed = [choose(guides, layout) for layout in layouts]
    found = []
    for guide in guides:
        rows = [row for row, chosen in enumerate(needed) if guide in chosen]
        if not rows:
            continue
        network = load_guide(guide)
        side = size or network.size
        labels = torch.tensor(network.labels)
        maps = torch.stack([torch.from_numpy(layouts[row].class_map(side)) for row in rows])
        targets = (maps[:, None] == labels[:, None, None]).float()
        targets[:, 0] = 1 - targets[:, 1:].sum(1)
        compared = torch.ones(len(rows), len(labels))
        if over == "layout":
            wanted = [torch.tensor([0, *layouts[row].classes]) for row in rows]
            compared = torch.stack([torch.isin(labels, each) for each in wanted]).float()
        place = device()
        found.append(
            Guided(
                network,
                side,
                torch.tensor(rows, device=place),
                targets.to(place),
                compared[..., None, None].to(place),
            )
        )
    return found


def guide_loss(guided: Guided, images: Tensor, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """Eq. 1: the mean squared difference of predicted and target masks.

    The paper names neither the form of the predicted mask m_p nor the resolution.

    Args:
        guided: the guide and its samples.
        images: of the batch, (B, 3, H, W) in [0, 1], enlarged (bilinear) to the guide's size.
        prediction: the form of m_p.

    Returns:
        The loss of each of its samples, (M,), and their logits without gradient.
    """
    size = (guided.size, guided.size)
    seen = images[guided.rows]
    if seen.shape[-2:] != size:
        seen = F.interpolate(seen, size, mode="bilinear", antialias=True)
    logits = guided.network.module(seen)
    predicted = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, "logits": lambda x: x}
    errors = (predicted[prediction](logits) - guided.targets).square() * guided.compared
    planes = guided.compared.sum((1, 2, 3)) * guided.size**2
    return errors.sum((1, 2, 3)) / planes, logits.detach()


def guide_iou(guided: Guided, logits: Tensor) -> Tensor:
    """Mean IoU of the guide's argmax with the target, over the layout's classes it knows, (M,)."""
    classes = logits.shape[1]
    found = F.one_hot(logits.argmax(1), classes).movedim(-1, 1).bool()
    truth = guided.targets.bool()
    overlap = (found & truth).sum((2, 3))[:, 1:]
    union = (found | truth).sum((2, 3))[:, 1:]
    present = truth.any(3).any(2)[:, 1:]
    return (overlap / union.clamp(min=1) * present).sum(1) / present.sum(1).clamp(min=1)
