"""Segmentation guides: experts for their classes, chosen by a layout's, and their loss (Eq. 1)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from tcig.data.files import InputError
from tcig.data.layout import Layout
from tcig.data.voc import LABELS
from tcig.methods.base import Weights
from tcig.methods.views import Views, random_views, warp
from tcig.models.devices import PLAIN, Compute, fuse_batchnorm, kept, resize
from tcig.models.segmentation import DEEPLABV3, Network, deeplabv3_resnet101, miniature
from tcig.models.weights import MINIATURE


class GuideWeights(Weights):
    """Marks an option that names guides."""

    def source(self, name: str) -> str | None:
        """DeepLabv3's weights are fetched; a shipped guide or a file is not."""
        return name if name == DEEPLABV3 else None

    def identity(self, name: str, compute: Compute) -> str:
        """Identity of the guide's weights."""
        return load_guide(name, compute).identity


@dataclass(frozen=True)
class GuideOptions:
    """Options of the guides, shared by stage 1 of TCIG and by direct guidance."""

    guides: Annotated[tuple[str, ...], GuideWeights("guide")] = (DEEPLABV3,)
    """Experts; the first that knows a class guides it."""
    prediction: Literal["softmax", "logits", "sigmoid"] = "softmax"
    """m_p of Eq. 1."""
    over: Literal["layout", "all"] = "layout"
    """Planes that Eq. 1 compares: those of the layout's classes and the background, or all."""
    guide_size: int | None = None
    """Side at which masks are compared, pixels; None: the guide's own."""
    views: Views = field(default_factory=Views)
    """Random views that the guides see in place of the image; none in the paper."""


@kept
def load_guide(source: str, compute: Compute = PLAIN) -> Network:
    """Loads `mini:NAME`, `deeplabv3_resnet101`, or `deeplabv3_resnet101=FILE`.

    Raises:
        InputError: the guide is unknown, or its weights do not load.
    """
    name, _, path = source.partition("=")
    if source.startswith(MINIATURE):
        network = miniature(source.removeprefix(MINIATURE))
    elif name == DEEPLABV3:
        network = deeplabv3_resnet101(Path(path) if path else None)
    else:
        raise InputError(
            f"unknown guide {source!r}; available: mini:guide, mini:guide-animals, "
            f"mini:guide-objects, {DEEPLABV3} and {DEEPLABV3}=FILE."
        )
    return replace(network, module=fuse_batchnorm(network.module).to(compute.device))


def choose_guides(guides: Sequence[str], layout: Layout, compute: Compute = PLAIN) -> list[str]:
    """Chooses the guides of a layout: for each of its classes the first that knows it.

    The paper has "a straightforward logic based on the input classes" and no more.

    Raises:
        InputError: no guide knows a class.
    """
    labels = {guide: load_guide(guide, compute).labels for guide in guides}
    chosen = set()
    for index in layout.classes:
        expert = next((guide for guide in guides if index in labels[guide]), None)
        if expert is None:
            known = "; ".join(
                f"{guide} knows {', '.join(LABELS[n] for n in numbers[1:])}"
                for guide, numbers in labels.items()
            )
            raise InputError(
                f"layout {layout.id}: no guide knows the class {LABELS[index]} ({known}): add one "
                "to the row's guides."
            )
        chosen.add(expert)
    return [guide for guide in guides if guide in chosen]


class GuideTargets(NamedTuple):
    """One guide, the samples of a batch that it guides, and what it is to see in them."""

    network: Network
    size: int
    """Side at which images and masks are compared."""
    rows: Tensor
    """Indices of the guided samples in the batch, (M,)."""
    owners: Tensor
    """Index in `rows` of each plane that the loss compares, (P,)."""
    channels: Tensor
    """Channel of the guide's output of each plane, (P,)."""
    targets: Tensor
    """Masks of the planes, (P, size, size) of 0 and 1; classes unknown to the guide are background.
    """


def prepare_guides(
    options: GuideOptions, layouts: Sequence[Layout], compute: Compute = PLAIN
) -> list[GuideTargets]:
    """The guides that a batch of layouts needs, with their targets."""
    guides = options.guides
    needed = [choose_guides(guides, layout, compute) for layout in layouts]
    prepared = []
    for guide in guides:
        rows = [row for row, chosen in enumerate(needed) if guide in chosen]
        if not rows:
            continue
        network = load_guide(guide, compute)
        side = options.guide_size or network.size
        labels = torch.tensor(network.labels)
        classes = [torch.tensor([0, *layouts[row].classes]) for row in rows]
        compared = torch.stack([torch.isin(labels, each) for each in classes])
        owners, channels = (compared | (options.over == "all")).nonzero().unbind(1)
        maps = torch.stack([torch.from_numpy(layouts[row].class_map(side)) for row in rows])
        maps[~torch.isin(maps, labels)] = 0
        targets = (maps[owners] == labels[channels, None, None]).float()
        parts = (torch.tensor(rows), owners, channels, targets)
        prepared.append(GuideTargets(network, side, *(part.to(compute.device) for part in parts)))
    return prepared


def guide_loss(
    guide: GuideTargets, images: Tensor, options: GuideOptions, compute: Compute = PLAIN
) -> tuple[Tensor, Tensor]:
    """Equation 1: `L_seg = MSE(m_p, m_t)`, predicted against target masks.

    The paper names neither the form of the predicted mask m_p nor the resolution. The images of
    the batch, (B, 3, H, W) in [0, 1], are resized to the guide's size.

    Returns:
        The loss of each of the guide's samples, (M,), and their logits without gradient.
    """
    size = (guide.size, guide.size)
    seen = images[guide.rows]
    if seen.shape[-2:] != size:
        seen = resize(seen, size, antialias=True)
    with compute.autocast():
        logits = guide.network.module(seen)
    logits = logits.to(images.dtype)
    if options.prediction == "softmax":
        masks = logits.softmax(1)
    else:
        masks = logits.sigmoid() if options.prediction == "sigmoid" else logits
    planes = guide.owners * logits.shape[1] + guide.channels
    predicted = masks.flatten(0, 1).index_select(0, planes)
    errors = F.mse_loss(predicted, guide.targets, reduction="none").mean((1, 2))
    total = torch.zeros(len(logits), device=logits.device).index_add(0, guide.owners, errors)
    return total / guide.owners.bincount(minlength=len(logits)), logits.detach()


def guide_iou(guide: GuideTargets, logits: Tensor) -> Tensor:
    """Mean IoU of the guide's argmax with the target, over the layout's classes it knows, (M,)."""
    predicted = logits.argmax(1)[guide.owners] == guide.channels[:, None, None]
    truth = guide.targets.bool()
    overlap, union = (predicted & truth).sum((1, 2)), (predicted | truth).sum((1, 2))
    objects = truth.flatten(1).any(1) & (guide.channels > 0)
    parts = torch.stack([overlap / union.clamp(min=1) * objects, objects.float()])
    sums = torch.zeros(2, len(logits), device=logits.device).index_add(1, guide.owners, parts)
    return sums[0] / sums[1].clamp(min=1)


def see_views(
    guides: Sequence[GuideTargets], images: Tensor, views: Views, generators: Sequence[Generator]
) -> tuple[list[GuideTargets], Tensor]:
    """Makes random views of images, (B, 3, S, S) in [0, 1], and of targets by the same maps.

    Returns:
        The guides with the views as their samples, and the views, see `random_views`.
    """
    seen, maps = random_views(images, views, generators)
    number = torch.arange(views.count, device=images.device)
    viewing = []
    for guide in guides:
        masks, maps_of_planes = guide.targets[:, None], maps[guide.rows[guide.owners]]
        targets = warp(masks, maps_of_planes, guide.size, mode="nearest", outside="reflection")
        viewing.append(
            guide._replace(
                rows=(guide.rows[:, None] * views.count + number).flatten(),
                owners=(guide.owners[:, None] * views.count + number).flatten(),
                channels=guide.channels.repeat_interleave(views.count),
                targets=targets[:, 0],
            )
        )
    return viewing, seen


def summed_loss(
    guides: Sequence[GuideTargets],
    images: Tensor,
    options: GuideOptions,
    generators: Sequence[Generator] = (),
    compute: Compute = PLAIN,
) -> tuple[Tensor, Tensor]:
    """Sums `guide_loss` over the guides of each of the images, (B, 3, H, W) in [0, 1].

    Where the guides see views, loss and IoU are means over them; each sample's views come from its
    own generator.

    Returns:
        The sums, (B,), and the means of `guide_iou` over the guides, (B,).
    """
    batch = len(images)
    if options.views.count:
        guides, images = see_views(guides, images, options.views, generators)
    total, iou, count = torch.zeros(3, len(images), device=images.device)
    for guide in guides:
        loss, logits = guide_loss(guide, images, options, compute)
        total = total.index_add(0, guide.rows, loss)
        iou = iou.index_add(0, guide.rows, guide_iou(guide, logits))
        count = count.index_add(0, guide.rows, torch.ones_like(loss))
    iou = iou / count.clamp(min=1)
    return total.view(batch, -1).mean(1), iou.view(batch, -1).mean(1)
