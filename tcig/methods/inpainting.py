"""Stable Inpainting (SI) and Blended Latent Diffusion (BLD): one region after another is inpainted.

As MultiDiffusion's paper uses them (arXiv 2302.08113): auto-regressive, the background from the
caption, then every object in its mask with the prompt "a {label}". The order is not published, nor
is SI's checkpoint. SI is the inpainting model of Rombach et al. 2022 (arXiv 2112.10752), whose UNet
reads nine channels: noisy latent, mask, latent of the masked image. BLD is Avrahami et al. 2023
(arXiv 2206.02779), by omriav/blended-latent-diffusion 09565c5; `sd2` is its
scripts/text_editing_SD2.py, `ldm` the paper's own, ldm/models/diffusion/ddim.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Generator, Tensor
from torch.nn import functional as F

from tcig.data.layout import Layout
from tcig.methods.base import Cost, Progress, Weights, gaussian, generators
from tcig.methods.sampling import RegionOptions, SamplingMethod, evaluations, grid_masks
from tcig.models.clip import load_clip
from tcig.models.diffusion import to_images


@dataclass(frozen=True)
class ProgressiveOptions(RegionOptions):
    """Options of `si` and `bld`."""

    order: Literal["large-first", "small-first", "given"] = "large-first"
    """Order in which the regions are painted: by area, or as the layout has them. With the largest
    first, the smaller object is painted last, and it lies on top in the class map."""


def painting_order(layout: Layout, order: str) -> list[int]:
    """Indices of the regions in the order in which they are painted."""
    sign = {"large-first": -1, "small-first": 1, "given": 0}[order]
    areas = [sign * int(region.pixels.sum()) for region in layout.regions]
    return sorted(range(len(areas)), key=areas.__getitem__)


def passes(
    layouts: Sequence[Layout], options: ProgressiveOptions, side: int
) -> list[tuple[list[int], Tensor, list[str]]]:
    """The passes over layouts: the first region of each, then the second, ...

    Returns:
        For each pass the indices of the layouts that still have a region, the masks of these
        regions on the latent grid, (len(indices), 1, side, side), and their prompts.

    Raises:
        InputError: see `grid_masks`.
    """
    orders = [painting_order(layout, options.order) for layout in layouts]
    masks = [grid_masks(layout, side, options.coverage) for layout in layouts]
    painted = []
    for turn in range(max(map(len, orders))):
        rows = [row for row, order in enumerate(orders) if turn < len(order)]
        numbers = [orders[row][turn] for row in rows]
        prompts = [layouts[row].regions[n].prompt for row, n in zip(rows, numbers, strict=True)]
        stacked = torch.stack([masks[row][n] for row, n in zip(rows, numbers, strict=True)])
        painted.append((rows, stacked, prompts))
    return painted


@dataclass(frozen=True)
class InpaintingOptions(ProgressiveOptions):
    """Options of `si`."""

    weights: Annotated[str, Weights("diffusion")] = "sd2-community/stable-diffusion-2-inpainting"
    """A model whose UNet has nine channels."""
    handover: Literal["latent", "pixels", "pasted"] = "latent"
    """Input of the next pass. `latent`: the latent itself, blanked in the next mask.
    `pixels`: the decoded image, masked and encoded again, as diffusers' pipeline does. `pasted`:
    the same, with the earlier pixels put back outside the mask, which also puts the mask's
    silhouette into the image and so into its IoU."""


class Inpainting(SamplingMethod):
    """Stable Diffusion inpainting, once for the background and once for each region."""

    Options = InpaintingOptions
    masked = True

    @classmethod
    def cost(cls, options, layouts):
        """All steps for the background and for each region."""
        regions = (region.prompt for layout in layouts for region in layout.regions)
        background = super().cost(options, layouts)
        return Cost(background.unet + options.steps * evaluations(regions, options))

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once, pass by pass."""
        options, model, rngs = self.options, self.model, generators(seeds)
        regions = passes(layouts, options, self.side)
        progress = Progress(callback, options.steps * (1 + len(regions)))
        blank = model.encode(torch.zeros(1, 3, self.context.size, self.context.size))
        everywhere = torch.ones(len(layouts), 1, self.side, self.side, device=model.device)
        extra = torch.cat([everywhere, blank.expand(len(layouts), -1, -1, -1)], 1)
        captions = [layout.caption for layout in layouts]
        latents = self.text_to_image(rngs, captions, progress, extra)
        images = None if options.handover == "latent" else model.decode(latents)
        for rows, mask, prompts in regions:
            mask = mask.to(model.device)
            if images is None:
                masked = latents[rows] * (1 - mask) + blank * mask
            else:
                hole = F.interpolate(mask, scale_factor=model.factor)
                masked = model.encode(images[rows] * (1 - hole))
            own_rngs = [rngs[row] for row in rows]
            extra = torch.cat([mask, masked], 1)
            latents[rows] = self.text_to_image(own_rngs, prompts, progress, extra)
            if images is not None:
                decoded = model.decode(latents[rows])
                if options.handover == "pasted":
                    decoded = decoded * hole + images[rows] * (1 - hole)
                images[rows] = decoded
        return to_images(model.decode(latents) if images is None else images)


class Variant(NamedTuple):
    """Blending of a published implementation of BLD."""

    skip: float
    """Share of the timesteps that is skipped at the start."""
    from_noise: bool
    """Whether it starts from pure noise, or from the source noised to the first timestep."""
    after: bool
    """Whether it blends after each denoising step, or before."""
    schedule: dict[str, int]
    """Settings of the schedule in place of the model's own."""


VARIANTS = {
    # text_editing_SD2.py: skip l. 77 and 114-116, noise l. 106-110, blending l. 139-143; its
    # scheduler (l. 58-64) is diffusers' default in all but its betas: offset 0.
    "sd2": Variant(skip=0.25, from_noise=True, after=True, schedule={"steps_offset": 0}),
    # ddim.py: x_T from the source l. 201-208, blending before p_sample_ddim l. 222-229.
    "ldm": Variant(skip=0.0, from_noise=False, after=False, schedule={}),
}


@dataclass(frozen=True)
class BlendedOptions(ProgressiveOptions):
    """Options of `bld`."""

    variant: Literal["sd2", "ldm"] = "sd2"
    """Published implementation; MultiDiffusion compares on Stable Diffusion 2."""
    handover: Literal["latent", "pixels"] = "latent"
    """Source of the next pass: the latent itself, or its decoded image encoded again."""
    dilation: int = 0
    """Number of dilated masks before the raw one, by squares of 3 + 2i cells, largest first
    (image_editor.py l. 67-71). Each of the n masks is used for steps // n + 1 steps, so the last
    may get fewer (ddim.py l. 225). Off in both published scripts."""
    candidates: int = 1
    """Trials for each pass; CLIP keeps the best by the masked result. The LDM script makes 4
    (image_editor.py l. 161), and shows them all in that order."""
    clip: Annotated[str, Weights("clip")] = ""
    """The CLIP that ranks candidates (published: ViT-B/16): hub id, folder, or `mini:NAME`."""

    def __post_init__(self):
        super().__post_init__()
        if self.candidates < 1 or self.dilation < 0:
            raise ValueError("candidates must be at least 1, and dilation at least 0")
        if self.candidates > 1 and not self.clip:
            raise ValueError("several candidates need a clip to rank them")

    @property
    def steps_of_pass(self) -> int:
        """Steps that a region's pass runs."""
        return self.steps - int(self.steps * VARIANTS[self.variant].skip)

    def uses(self, option: str) -> bool:
        """Whether it loads the weights of an option."""
        return option != "clip" or self.candidates > 1


def dilated(mask: Tensor, count: int) -> list[Tensor]:
    """`count` dilations of masks (N, 1, h, w), the largest first, then the masks themselves."""
    sizes = [3 + 2 * i for i in reversed(range(count))]
    return [*(F.max_pool2d(mask, k, stride=1, padding=k // 2) for k in sizes), mask]


def blend(
    predict: Callable[[Tensor, Tensor], Tensor],
    schedule: DDIMScheduler,
    timesteps: Tensor,
    latents: Tensor,
    source: Tensor,
    masks: Sequence[Tensor],
    noises: Iterable[Tensor],
    after: bool,
) -> Iterator[Tensor]:
    """Denoises N latents; outside the mask they stay the source noised to each timestep.

    Args:
        predict: from latents and timestep to the guided prediction.
        schedule: with its timesteps set.
        timesteps: those to run, T of them.
        latents: to start from, (N, C, h, w).
        source: latents of the image to blend into, (N, C, h, w).
        masks: n of them, each (N, 1, h, w), in order for T // n + 1 steps each.
        noises: for each step, (N, C, h, w).
        after: whether to blend after each step or before it.

    Yields:
        The latents after each step, (N, C, h, w).
    """
    turn = len(timesteps) // len(masks) + 1
    for step, (t, noise) in enumerate(zip(timesteps, noises, strict=True)):
        mask = masks[step // turn]
        # After a step it blends with noise of the timestep before the step, as published.
        outside = schedule.add_noise(source, noise, t[None]) * (1 - mask)
        if not after:
            latents = latents * mask + outside
        latents = schedule.step(predict(latents, t), t, latents).prev_sample
        if after:
            latents = latents * mask + outside
        yield latents


class Blended(SamplingMethod):
    """Text-to-image for the background, then one blended pass for each region."""

    Options = BlendedOptions

    def __init__(self, context, options):
        super().__init__(context, options)
        several = options.candidates > 1
        self.clip = load_clip(options.clip, context.compute) if several else None

    @classmethod
    def cost(cls, options, layouts):
        """All steps for the background, those not skipped for each region and candidate."""
        regions = (region.prompt for layout in layouts for region in layout.regions)
        steps = options.steps_of_pass * options.candidates
        background = super().cost(options, layouts)
        return Cost(background.unet + steps * evaluations(regions, options))

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once, pass by pass."""
        options, rngs = self.options, generators(seeds)
        regions = passes(layouts, options, self.side)
        progress = Progress(callback, options.steps + options.steps_of_pass * len(regions))
        latents = self.text_to_image(rngs, [layout.caption for layout in layouts], progress)
        for rows, mask, prompts in regions:
            source = latents[rows]
            if options.handover == "pixels":
                source = self.model.encode(self.model.decode(source))
            mask, own_rngs = mask.to(self.model.device), [rngs[row] for row in rows]
            latents[rows] = self._paint(own_rngs, source, mask, prompts, progress)
        return to_images(self.model.decode(latents))

    def _paint(
        self,
        rngs: Sequence[Generator],
        source: Tensor,
        mask: Tensor,
        prompts: Sequence[str],
        progress: Progress,
    ) -> Tensor:
        """One pass over N latents, the best of the candidates of each."""
        variant, count = VARIANTS[self.options.variant], self.options.candidates
        schedule = self.model.schedule(self.options.steps, **variant.schedule)
        timesteps = schedule.timesteps[-self.options.steps_of_pass :]
        trials = [rng for rng in rngs for _ in range(count)]
        sources, holes = source.repeat_interleave(count, 0), mask.repeat_interleave(count, 0)
        start = self.start(trials)
        if not variant.from_noise:
            start = schedule.add_noise(sources, start, timesteps[:1])
        steps = blend(
            self.predictor([prompt for prompt in prompts for _ in range(count)]),
            schedule,
            timesteps,
            latents=start,
            source=sources,
            masks=dilated(holes, self.options.dilation),
            noises=(gaussian(trials, start.shape[1:]).to(start) for _ in timesteps),
            after=variant.after,
        )
        candidates = progress.last(steps)
        if self.clip is None:
            return candidates
        best = self._rank(candidates, holes, prompts).view(-1, count).argmax(1)
        return candidates.unflatten(0, (-1, count))[torch.arange(len(best)), best]

    def _rank(self, latents: Tensor, mask: Tensor, prompts: Sequence[str]) -> Tensor:
        """CLIP's similarity of each masked result with its prompt.

        Outside the mask the result is black (image_editor.py l. 331-357).
        """
        images = (self.model.decode(latents) + 1) / 2
        hole = F.interpolate(mask, images.shape[-2:])
        masked = F.interpolate(images * hole, self.clip.size, mode="bilinear", antialias=True)
        texts = self.clip.encode_texts(prompts)
        texts = texts.repeat_interleave(len(latents) // len(prompts), 0)
        return (self.clip.encode_images(masked) * texts).sum(1)
