"""Blended Latent Diffusion (BLD; Avrahami et al. 2023, arXiv 2206.02779), progressive.

Background from the caption by plain text-to-image, then each region blended into what is there, as
MultiDiffusion's paper uses it. Reference: omriav/blended-latent-diffusion 09565c5;
`sd2` is scripts/text_editing_SD2.py, `ldm` the paper's own, ldm/models/diffusion/ddim.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Generator, Tensor
from torch.nn import functional as F

from tcig.methods.base import Cost, Progress
from tcig.methods.draws import gaussian, generators
from tcig.methods.regions import Order, grid_masks, passes
from tcig.methods.sampling import SamplingMethod, SamplingOptions, evaluations
from tcig.models.clip import load_clip
from tcig.models.diffusion import Calls, Diffusion, to_images


class Variant(NamedTuple):
    """How a published implementation blends."""

    skip: float
    """Share of the timesteps that is left out at the start."""
    from_noise: bool
    """Whether it starts from pure noise, or from the source noised to the first timestep."""
    after: bool
    """Whether it blends after each denoising step, or before."""
    steps_offset: int | None
    """Of the timesteps; None: the model's own."""


VARIANTS = {
    # text_editing_SD2.py: skip l. 77 and 114-116, noise l. 106-110, blending l. 139-143; its
    # scheduler (l. 58-64) is diffusers' default in all but its betas: offset 0.
    "sd2": Variant(skip=0.25, from_noise=True, after=True, steps_offset=0),
    # ddim.py: x_T from the source l. 201-208, blending before p_sample_ddim l. 222-229.
    "ldm": Variant(skip=0.0, from_noise=False, after=False, steps_offset=None),
}


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Options of `bld`."""

    variant: Literal["sd2", "ldm"] = "sd2"
    """Of the two published; MultiDiffusion compares on Stable Diffusion 2."""
    order: Order = "large-first"
    """Of the regions."""
    handover: Literal["latent", "pixels"] = "latent"
    """Source of the next pass: the latent itself, or its decoded image encoded again."""
    dilation: int = 0
    """So many dilated masks before the raw one, by squares of 3 + 2i cells, largest first
    (image_editor.py l. 67-71), each of the n masks for steps // n + 1 steps, so that the last may
    get fewer (ddim.py l. 225); off in both published scripts."""
    candidates: int = 1
    """Trials for each pass, of which the best by CLIP on the masked result is kept. The LDM script
    makes 4 (image_editor.py l. 161), and shows them all in that order."""
    clip: str = ""
    """The CLIP that ranks candidates (published: ViT-B/16): hub id, folder, or `mini:NAME`."""
    coverage: float | None = None
    """Share of a latent cell from which on a region has it; None: nearest, as the scripts."""

    def __post_init__(self):
        super().__post_init__()
        if self.candidates < 1 or self.dilation < 0:
            raise ValueError("candidates count from 1, dilation from 0")
        if self.candidates > 1 and not self.clip:
            raise ValueError("several candidates need a clip to rank them")


def dilated(mask: Tensor, count: int) -> list[Tensor]:
    """`count` dilations of masks (N, 1, h, w), the largest first, then the masks themselves."""
    sizes = [3 + 2 * i for i in reversed(range(count))]
    return [*(F.max_pool2d(mask, k, stride=1, padding=k // 2) for k in sizes), mask]


def sample(
    model: Diffusion,
    schedule: DDIMScheduler,
    timesteps: Tensor,
    latents: Tensor,
    source: Tensor,
    masks: Sequence[Tensor],
    noises: Sequence[Tensor],
    texts: Tensor,
    calls: Calls,
    guidance: float,
    after: bool,
    progress: Progress | None = None,
) -> Tensor:
    """Denoises N latents, outside the mask kept at the source noised to each timestep.

    Args:
        model: as said.
        schedule: with its timesteps set.
        timesteps: those to run, T of them.
        latents: to start from, (N, C, h, w).
        source: latents of the image to blend into, (N, C, h, w).
        masks: one or more, each (N, 1, h, w), in order for T // n + 1 steps each.
        noises: for each step, (N, C, h, w).
        texts: (K, L, D).
        calls: of each latent under its prompt.
        guidance: its scale.
        after: whether to blend after each step or before it.
        progress: is told of each step.
    """
    interval = len(timesteps) // len(masks) + 1
    steps = zip((progress or Progress()).over(timesteps), noises, strict=True)
    for step, (t, noise) in enumerate(steps):
        mask = masks[step // interval]
        if not after:
            latents = _blend(schedule, latents, source, mask, noise, t)
        predicted = model.guided(latents, t, texts, calls, guidance)
        latents = schedule.step(predicted, t, latents).prev_sample
        if after:  # noised to t, not to the timestep that the step has reached, as published
            latents = _blend(schedule, latents, source, mask, noise, t)
    return latents


def _blend(schedule, latents: Tensor, source: Tensor, mask: Tensor, noise: Tensor, t: Tensor):
    return latents * mask + schedule.add_noise(source, noise, t[None]) * (1 - mask)


class Blended(SamplingMethod):
    """Text-to-image for the background, then one blended pass for each region."""

    Options = Options

    def __init__(self, context, options):
        super().__init__(context, options)
        ranked = options.candidates > 1
        self.clip = load_clip(options.clip, context.compute) if ranked else None

    @classmethod
    def sources(cls, options) -> tuple[str, ...]:
        """The diffusion model, and the CLIP that ranks."""
        ranking = (options.clip,) if options.candidates > 1 else ()
        return super().sources(options) + ranking

    @classmethod
    def cost(cls, options, layouts):
        """All steps for the background, those not skipped for each region and candidate."""
        kept = options.steps - int(options.steps * VARIANTS[options.variant].skip)
        found = 0
        for each in layouts:
            found += options.steps * evaluations(each.caption, options)
            painted = sum(evaluations(region.prompt, options) for region in each.regions)
            found += kept * options.candidates * painted
        return Cost(found)

    @property
    def weights(self) -> dict[str, str]:
        """The diffusion model's identity, and the CLIP's that ranks."""
        return super().weights | ({"clip": self.clip.identity} if self.clip else {})

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Draws all layouts at once, pass by pass."""
        draws = generators(seeds)
        masks = [grid_masks(layout, self.side, self.options.coverage) for layout in layouts]
        options, most = self.options, max(len(layout.regions) for layout in layouts)
        kept = options.steps - int(options.steps * VARIANTS[options.variant].skip)
        progress = Progress(callback, options.steps + kept * most)
        captions = [layout.caption for layout in layouts]
        latents = self.text_to_image(draws, captions, progress=progress)
        for painted in passes(layouts, self.options.order):
            rows = torch.tensor([n for n, _ in painted])
            mask = torch.stack([masks[n][r] for n, r in painted]).to(self.model.device)
            source = latents[rows]
            if self.options.handover == "pixels":
                source = self.model.encode(self.model.decode(source))
            prompts = [layouts[n].regions[r].prompt for n, r in painted]
            own = [draws[n] for n, _ in painted]
            latents[rows] = self._paint(own, source, mask, prompts, progress)
            if callback:
                callback("pass", rows=rows.tolist(), latents=latents)
        return to_images(self.model.decode(latents))

    def _paint(
        self,
        draws: list[Generator],
        source: Tensor,
        mask: Tensor,
        prompts: list[str],
        progress: Progress,
    ) -> Tensor:
        """One pass over N latents, the best of the candidates of each."""
        variant, count = VARIANTS[self.options.variant], self.options.candidates
        changes = {} if variant.steps_offset is None else {"steps_offset": variant.steps_offset}
        schedule = self.model.schedule(self.options.steps, **changes)
        timesteps = schedule.timesteps[int(len(schedule.timesteps) * variant.skip) :]
        trials = [draw for draw in draws for _ in range(count)]
        sources, holes = source.repeat_interleave(count, 0), mask.repeat_interleave(count, 0)
        start = self.start(trials)
        if not variant.from_noise:
            start = schedule.add_noise(sources, start, timesteps[:1])
        noises = (gaussian(trials, start.shape[1:]).to(start) for _ in timesteps)
        texts, calls = self.prompted([prompt for prompt in prompts for _ in range(count)])
        found = sample(
            self.model,
            schedule,
            timesteps,
            start,
            sources,
            dilated(holes, self.options.dilation),
            noises,
            texts,
            calls,
            self.options.guidance,
            variant.after,
            progress,
        )
        if self.clip is None:
            return found
        best = self._rank(found, holes, prompts).view(-1, count).argmax(1)
        return found.unflatten(0, (-1, count))[torch.arange(len(best)), best]

    def _rank(self, latents: Tensor, mask: Tensor, prompts: list[str]) -> Tensor:
        """CLIP's similarity of each masked result with its prompt (image_editor.py
        l. 331-357: outside the mask it is black)."""
        images = (self.model.decode(latents) + 1) / 2
        hole = F.interpolate(mask, images.shape[-2:])
        size = (self.clip.size, self.clip.size)
        masked = F.interpolate(images * hole, size, mode="bilinear", antialias=True)
        texts = self.clip.encode_texts(prompts)
        texts = texts.repeat_interleave(len(latents) // len(prompts), 0)
        return (self.clip.encode_images(masked) * texts).sum(1)
