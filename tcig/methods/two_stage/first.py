"""Stage 1: a VQGAN's latent, optimised under CLIP and segmentation guides (Eq. 2).

Reference for all that the paper leaves open: nerdyrodent/VQGAN-CLIP 592d555, generate.py (lines
cited below), after Crowson et al. 2022 (arXiv 2204.08583).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from tcig.data.layout import Layout
from tcig.data.pictures import eight_bits, open_picture
from tcig.methods.base import Progress
from tcig.methods.guides import Over, Prediction, Views, prepare_guides, summed_loss
from tcig.methods.two_stage.cutouts import Augmentations, augmented, draw_augmentations
from tcig.methods.two_stage.descent import Loss, optimise
from tcig.models.clip import Clip
from tcig.models.devices import PLAIN, Compute
from tcig.models.vqgan import VQGAN

STARTS = ("codes", "grey", "pixels")


@dataclass(frozen=True)
class FirstOptions:
    """Options of stage 1; tcig/methods/README.md has the source of each default."""

    vqgan: str = "vqgan_imagenet_f16_16384"
    """Of the catalogue, a folder in taming's layout or of diffusers' VQModel, or `mini:NAME`."""
    clip: str = "timm/vit_base_patch32_clip_224.openai"
    """Hub id or folder of an open_clip model, or `mini:NAME`."""
    guides: tuple[str, ...] = ("deeplabv3_resnet101",)
    """Experts, the first that knows a class guides it."""
    size: int | None = None
    """Side of the image, pixels; None: the profile's."""
    iterations: int = 500
    rate: float = 0.1
    """Adam's learning rate."""
    final_rate: float = 1.0
    """Share of the rate that the last iteration has; it falls linearly after 60% of them."""
    clip_weight: float = 1.0
    """a_c of Eq. 2."""
    guide_weight: float = 10.0
    """a_s of Eq. 2, the same for every guide."""
    prediction: Prediction = "softmax"
    """m_p of Eq. 1."""
    over: Over = "layout"
    """Planes of Eq. 1: of the layout's classes and the background, or all."""
    guide_size: int | None = None
    """Side at which masks are compared, pixels; None: the guide's own."""
    views: Views = field(default_factory=Views)
    """Random views that the guides see in place of the image; none in the paper."""
    cutouts: int = 32
    style: Literal["pooled", "crops"] = "pooled"
    """Of the cutouts: the whole image pooled, or random crops."""
    augmentations: Augmentations = ("affine", "perspective", "jitter", "erasing", "noise")
    start: str = "codes"
    """Random codes, `grey`, `pixels` (random ones), or the path of an image."""

    def __post_init__(self):
        if self.iterations < 0 or self.cutouts < 1:
            raise ValueError("iterations count from 0, cutouts from 1")
        if not (self.clip_weight or self.guide_weight):
            raise ValueError("clip_weight and guide_weight are both 0: nothing is optimised")
        if self.guide_weight and not self.guides:
            raise ValueError("guides is empty: name one or more")


def start_image(start: str) -> Path:
    """The file of an image to start from.

    Raises:
        InputError: it is none that can be opened.
    """
    open_picture(Path(start), fix=f"first.start is one of {', '.join(STARTS)}, or a picture")
    return Path(start)


def start_latents(vqgan: VQGAN, start: str, side: int, draws: Sequence[Generator]) -> Tensor:
    """Latents to begin with, (len(draws), D, h, w), for images of `side` pixels.

    `codes` are random entries of the codebook, the paper's random vector (generate.py l. 608-616);
    `pixels` a random image; images are encoded to codes (l. 194-196, 590-600).

    Raises:
        InputError: the image cannot be read.
    """
    shape = (3, side, side)
    if start == "codes":
        cells = side // vqgan.factor
        count = len(vqgan.codebook)
        codes = [torch.randint(count, (cells, cells), generator=draw) for draw in draws]
        return vqgan.codebook[torch.stack(codes).to(vqgan.codebook.device)].movedim(-1, 1)
    if start == "grey":
        images = torch.zeros(1, *shape)
    elif start == "pixels":
        images = torch.stack([torch.rand(shape, generator=draw) for draw in draws]) * 2 - 1
    else:
        picture = eight_bits(open_picture(start_image(start)), Path(start)).convert("RGB")
        resized = picture.resize((side, side), Image.Resampling.LANCZOS)
        images = torch.from_numpy(np.array(resized)).movedim(-1, 0)[None] / 127.5 - 1
    latents = vqgan.quantise(vqgan.encode(images.to(vqgan.codebook.device)))
    return latents.expand(len(draws), -1, -1, -1)


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared angle between unit vectors (..., D): 2 arcsin(|a - b| / 2)^2 (l. 291)."""
    return (a - b).norm(dim=-1).div(2).arcsin().square().mul(2)


def learning_rates(options: FirstOptions) -> list[float]:
    """The rate of each iteration: constant, then falling after 60% to `final_rate` of it."""
    turn, last = 0.6 * options.iterations, options.iterations - 1
    fallen = [max(i - turn, 0) / (last - turn) for i in range(options.iterations)]
    return [options.rate * (1 + (options.final_rate - 1) * share) for share in fallen]


class FirstStage:
    """Draws layouts by optimisation; a batch at once."""

    def __init__(
        self,
        options: FirstOptions,
        vqgan: VQGAN,
        clip: Clip | None,
        side: int,
        compute: Compute = PLAIN,
    ):
        self.options, self.vqgan, self.clip, self.side = options, vqgan, clip, side
        self.compute = compute

    def __call__(
        self,
        layouts: Sequence[Layout],
        draws: Sequence[Generator],
        callback: Callable[..., None] | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Images (B, 3, side, side) in [0, 1]; all randomness from each sample's generator.

        `callback` is that of `optimise`, and called with "guide", each `iteration` and the `iou`
        of the guides' masks, (B,). `progress` is told of each iteration.
        """
        terms = {}
        if self.clip:
            terms["clip"] = self._clip_term(layouts, draws)
        if self.options.guide_weight:
            terms["guide"] = self._guide_term(layouts, draws, callback)
        start = start_latents(self.vqgan, self.options.start, self.side, draws)
        rates = learning_rates(self.options)
        return optimise(self.vqgan, start, terms, rates, callback, self.compute, progress)

    def _clip_term(self, layouts: Sequence[Layout], draws: Sequence[Generator]) -> Loss:
        options, size = self.options, self.clip.size
        texts = self.clip.encode_texts([layout.caption for layout in layouts])

        def loss(images: Tensor, iteration: int) -> Tensor:
            drawn = draw_augmentations(
                draws,
                options.cutouts,
                size,
                self.side,
                options.style,
                options.augmentations,
                images.device,
            )
            views = augmented(images, drawn, size, options.style)
            with self.compute.autocast():
                encoded = self.clip.encode_images(views)
            found = encoded.unflatten(0, (len(images), options.cutouts))
            return options.clip_weight * spherical_distance(found, texts[:, None]).mean(1)

        return loss

    def _guide_term(
        self,
        layouts: Sequence[Layout],
        draws: Sequence[Generator],
        callback: Callable[..., None] | None,
    ) -> Loss:
        options, measured = self.options, callback is not None
        guided = prepare_guides(
            options.guides, layouts, options.guide_size, options.over, self.compute
        )

        def loss(images: Tensor, iteration: int) -> Tensor:
            found, iou = summed_loss(
                guided, images, options.prediction, self.compute, measured, options.views, draws
            )
            if callback:
                callback("guide", iteration=iteration, iou=iou)
            return options.guide_weight * found

        return loss
