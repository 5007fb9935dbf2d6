"""Stage 1: a VQGAN's latent, optimised under CLIP and segmentation guides.

The paper minimises

    Equation 1:  L_seg = MSE(m_p, m_t)                      (`guide_loss` in tcig/methods/guides.py)
    Equation 2:  L = a_c * L_clip + sum_i a_s * L_seg_i     (`Stage1.losses` here)

Reference for all that the paper leaves open: nerdyrodent/VQGAN-CLIP 592d555, generate.py (lines
cited below), after Crowson et al. 2022 (arXiv 2204.08583).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from tcig.data.layout import Layout
from tcig.data.pictures import eight_bits, open_picture
from tcig.methods.base import SILENT, Progress, Weights
from tcig.methods.guides import GuideOptions, prepare_guides, summed_loss
from tcig.methods.two_stage.cutouts import CutoutOptions, augment, sample_augmentations
from tcig.models.clip import Clip
from tcig.models.devices import PLAIN, Compute
from tcig.models.vqgan import VQGAN

STARTS = ("codes", "grey", "pixels")
Losses: TypeAlias = Callable[[Tensor, int], dict[str, Tensor]]
"""Maps images (B, 3, H, W) and an iteration to the weighted terms of their loss, (B,) each."""


@dataclass(frozen=True)
class Stage1Options(CutoutOptions, GuideOptions):
    """Options of stage 1; tcig/methods/README.md has the source of each default."""

    vqgan: Annotated[str, Weights("vqgan")] = "vqgan_imagenet_f16_16384"
    """Name in the catalogue, folder in taming's layout or of diffusers' VQModel, or `mini:NAME`."""
    clip: Annotated[str, Weights("clip")] = "timm/vit_base_patch32_clip_224.openai"
    """Hub id or folder of an open_clip model, or `mini:NAME`."""
    size: int | None = None
    """Side of the image, pixels; None: the profile's."""
    iterations: int = 500
    rate: float = 0.1
    """Adam's learning rate."""
    final_rate: float = 1.0
    """Factor on the learning rate in the last iteration; it falls linearly after 60% of them."""
    clip_weight: float = 1.0
    """a_c of Eq. 2."""
    guide_weight: float = 10.0
    """a_s of Eq. 2, the same for every guide."""
    start: str = "codes"
    """Random codes, `grey`, `pixels` (random ones), or the path of an image."""

    def __post_init__(self):
        if self.iterations < 0 or self.cutouts < 1:
            raise ValueError("iterations must be at least 0, and cutouts at least 1")
        if not (self.clip_weight or self.guide_weight):
            raise ValueError("clip_weight and guide_weight are both 0: nothing is optimised")
        if self.guide_weight and not self.guides:
            raise ValueError("guides is empty: name one or more")

    def uses(self, option: str) -> bool:
        """Whether it loads the weights of an option."""
        return {"clip": self.clip_weight != 0, "guides": self.guide_weight != 0}.get(option, True)


@dataclass(frozen=True)
class Stage1:
    """Generates images of layouts by optimisation, a batch at once."""

    options: Stage1Options
    vqgan: VQGAN
    clip: Clip | None
    side: int
    """Side of the images, pixels."""
    compute: Compute = PLAIN

    def __call__(
        self,
        layouts: Sequence[Layout],
        generators: Sequence[Generator],
        callback: Callable[..., None] | None = None,
        progress: Progress = SILENT,
    ) -> Tensor:
        """Images (B, 3, side, side) in [0, 1]; all randomness from each sample's generator.

        `callback` is that of `optimise`. It is also called with "guide", each `iteration` and the
        `iou` of the guides' masks, (B,). `progress` counts the iterations.
        """
        losses = self.losses(layouts, generators, callback)
        start = start_latents(self.vqgan, self.options.start, self.side, generators)
        rates = learning_rates(self.options)
        return optimise(self.vqgan, start, losses, rates, callback, self.compute, progress)

    def losses(
        self,
        layouts: Sequence[Layout],
        generators: Sequence[Generator],
        callback: Callable[..., None] | None = None,
    ) -> Losses:
        """The terms of Equation 2 for a batch, `a_c * L_clip` and `sum_i a_s * L_seg_i`."""
        options, compute, clip = self.options, self.compute, self.clip
        a_c, a_s = options.clip_weight, options.guide_weight
        if clip:
            texts = clip.encode_texts([layout.caption for layout in layouts])
        if a_s:
            guides = prepare_guides(options, layouts, compute)

        def clip_loss(images: Tensor) -> Tensor:
            augmentations = sample_augmentations(
                options, generators, clip.size, self.side, images.device
            )
            cutouts = augment(images, augmentations, clip.size, options.style)
            with compute.autocast():
                vectors = clip.encode_images(cutouts)
            vectors = vectors.unflatten(0, (len(images), options.cutouts))
            return spherical_distance(vectors, texts[:, None]).mean(1)

        def segmentation_loss(images: Tensor, iteration: int) -> Tensor:
            loss, iou = summed_loss(guides, images, options, generators, compute)
            if callback:
                callback("guide", iteration=iteration, iou=iou)
            return loss

        def equation_2(images: Tensor, iteration: int) -> dict[str, Tensor]:
            terms = {}
            if clip:
                terms["clip"] = a_c * clip_loss(images)
            if a_s:
                terms["guide"] = a_s * segmentation_loss(images, iteration)
            return terms

        return equation_2


def open_start(path: str) -> Image.Image:
    """Opens an image to start from.

    Raises:
        InputError: it cannot be opened.
    """
    fix = f"first.start is one of {', '.join(STARTS)}, or a picture"
    return eight_bits(open_picture(Path(path), fix=fix), Path(path)).convert("RGB")


def start_latents(vqgan: VQGAN, start: str, side: int, generators: Sequence[Generator]) -> Tensor:
    """Latents to begin with, (len(generators), D, h, w), for images of `side` pixels.

    `codes` are random entries of the codebook, the paper's random vector (generate.py l. 608-616);
    `pixels` a random image; images are encoded to codes (l. 194-196, 590-600).

    Raises:
        InputError: see `open_start`.
    """
    shape = (3, side, side)
    if start == "codes":
        cells = side // vqgan.factor
        count = len(vqgan.codebook)
        codes = [torch.randint(count, (cells, cells), generator=rng) for rng in generators]
        return vqgan.codebook[torch.stack(codes).to(vqgan.codebook.device)].movedim(-1, 1)
    if start == "grey":
        images = torch.zeros(1, *shape)
    elif start == "pixels":
        images = torch.stack([torch.rand(shape, generator=rng) for rng in generators]) * 2 - 1
    else:
        resized = open_start(start).resize((side, side), Image.Resampling.LANCZOS)
        images = torch.from_numpy(np.array(resized)).movedim(-1, 0)[None] / 127.5 - 1
    latents = vqgan.quantise(vqgan.encode(images.to(vqgan.codebook.device)))
    return latents.expand(len(generators), -1, -1, -1)


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared angle between unit vectors (..., D): 2 arcsin(|a - b| / 2)^2 (l. 291)."""
    return (a - b).norm(dim=-1).div(2).arcsin().square().mul(2)


def learning_rates(options: Stage1Options) -> list[float]:
    """The learning rate of each iteration: constant, then falling after 60% to `final_rate`."""
    turn, last = 0.6 * options.iterations, options.iterations - 1
    fallen = [max(i - turn, 0) / (last - turn) for i in range(options.iterations)]
    return [options.rate * (1 + (options.final_rate - 1) * share) for share in fallen]


class _ClampPixels(torch.autograd.Function):
    """Clamps to [0, 1]; the gradient passes unless it would leave further (l. 258-269)."""

    @staticmethod
    def forward(ctx, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        return images.clamp(0, 1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        return gradient * (gradient * (images - images.clamp(0, 1)) >= 0)


def synthesise(vqgan: VQGAN, latents: Tensor, compute: Compute = PLAIN) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] of the codes nearest to `latents`, differentiable (synth)."""
    codes = vqgan.quantise(latents)
    with compute.autocast():
        images = vqgan.decode(codes)
    return _ClampPixels.apply(images.to(latents.dtype).add(1).div(2))


def optimise(
    vqgan: VQGAN,
    latents: Tensor,
    losses: Losses,
    rates: Sequence[float],
    callback: Callable[..., None] | None = None,
    compute: Compute = PLAIN,
    progress: Progress = SILENT,
) -> Tensor:
    """Minimises the sum of losses by Adam from `latents`, each sample as if alone.

    After every step a latent is clamped to the codebook's range, per channel (l. 753-754).

    Args:
        vqgan: makes the images.
        latents: start, (B, D, h, w).
        losses: gives the terms of the loss, at least one.
        rates: Adam's learning rate of each iteration.
        callback: called with each `iteration`, the `images` and `latents` before its step and its
            `losses`, and at the end with the last ones and no losses.
        compute: sets the dtype in which the decoder runs.
        progress: counts the iterations.

    Returns:
        Images (B, 3, H, W) in [0, 1].

    Raises:
        FloatingPointError: in an iteration a sample's gradient is not finite, or zero.
    """
    low = vqgan.codebook.amin(0)[:, None, None]
    high = vqgan.codebook.amax(0)[:, None, None]
    latents = latents.clone().requires_grad_()
    adam = torch.optim.Adam([latents], lr=0.0)
    broken = torch.full((len(latents),), len(rates), device=latents.device)  # its first iteration
    for iteration, rate in enumerate(progress.over(rates)):
        adam.param_groups[0]["lr"] = rate
        images = synthesise(vqgan, latents, compute)
        terms = losses(images, iteration)
        loss = sum(terms.values())
        before = latents.detach().clone() if callback else None
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
        with torch.no_grad():
            latents.copy_(latents.clamp(low, high))
            # Read after the last iteration only, because reading makes a GPU wait.
            largest = latents.grad.flatten(1).abs().amax(1)
            usable = largest.isfinite() & (largest > 0) & latents.isfinite().flatten(1).all(1)
            broken = torch.minimum(broken, torch.where(usable, len(rates), iteration))
        if callback:
            terms = {name: term.detach() for name, term in terms.items()}
            state = {"images": images.detach(), "latents": before, "losses": terms}
            callback("iteration", iteration=iteration, **state)
    first = int(broken.min())
    if first < len(rates):
        raise FloatingPointError(
            f"stage 1, iteration {first}: the gradient or the latents are not finite, or the "
            "gradient is zero"
        )
    with torch.no_grad():
        images = synthesise(vqgan, latents, compute)
    if callback:
        state = {"images": images, "latents": latents.detach(), "losses": {}}
        callback("iteration", iteration=len(rates), **state)
    return images
