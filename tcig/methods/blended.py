"""Blended Latent Diffusion (BLD; Avrahami et al. 2023, arXiv 2206.02779), progressive.

Background from the caption by plain text-to-image, then each region blended into what is there, as
MultiDiffusion's paper uses it. Reference: omriav/blended-latent-diffusion 09565c5;
`sd2` is scripts/text_editing_SD2.py, `ldm` the paper's own, ldm/models/diffusion/ddim.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Generator, Tensor
from torch.nn import functional as F

from tcig.methods.base import Cost, Progress, Weights, gaussian, generators
from tcig.methods.regions import Order, passes
from tcig.methods.sampling import SamplingMethod, SamplingOptions, ddim, evaluations
from tcig.models.clip import load_clip
from tcig.models.diffusion import to_images


class Variant(NamedTuple):
    """How a published implementation blends."""

    skip: float
    """Share of the timesteps that is skipped at the start."""
    from_noise: bool
    """Whether it starts from pure noise, or from the source noised to the first timestep."""
    after: bool
    """Whether it blends after each denoising step, or before."""
    steps_offset: int | None
    """Offset of the timesteps; None: the model's own."""


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
    """Order in which the regions are painted."""
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
    coverage: float | None = None
    """Share of a latent cell that a region must cover to own it; None: nearest, as the scripts."""

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


def sample(
    predict: Callable[[Tensor, Tensor], Tensor],
    schedule: DDIMScheduler,
    timesteps: Tensor,
    latents: Tensor,
    source: Tensor,
    masks: Sequence[Tensor],
    noises: Iterable[Tensor],
    after: bool,
    progress: Progress | None = None,
) -> Tensor:
    """Denoises N latents; outside the mask they stay the source noised to each timestep.

    Args:
        predict: from latents and timestep to the guided prediction.
        schedule: with its timesteps set.
        timesteps: those to run, T of them.
        latents: to start from, (N, C, h, w).
        source: latents of the image to blend into, (N, C, h, w).
        masks: one or more, each (N, 1, h, w), in order for T // n + 1 steps each.
        noises: for each step, (N, C, h, w).
        after: whether to blend after each step or before it.
        progress: is told of each step.
    """
    interval, noises = len(timesteps) // len(masks) + 1, iter(noises)

    def blend(latents: Tensor, step: int, t: Tensor) -> Tensor:
        mask, noised = masks[step // interval], schedule.add_noise(source, next(noises), t[None])
        return latents * mask + noised * (1 - mask)

    def predict_step(latents: Tensor, step: int, t: Tensor) -> tuple[Tensor, Tensor]:
        latents = latents if after else blend(latents, step, t)
        return latents, predict(latents, t)

    # After a step it blends with noise of the timestep before the step, as published.
    return ddim(schedule, latents, predict_step, blend if after else None, timesteps, progress)


class Blended(SamplingMethod):
    """Text-to-image for the background, then one blended pass for each region."""

    Options = Options

    def __init__(self, context, options):
        super().__init__(context, options)
        ranked = options.candidates > 1
        self.clip = load_clip(options.clip, context.compute) if ranked else None

    @classmethod
    def cost(cls, options, layouts):
        """All steps for the background, those not skipped for each region and candidate."""
        prompts = (region.prompt for layout in layouts for region in layout.regions)
        regions = options.steps_of_pass * options.candidates * evaluations(prompts, options)
        return Cost(super().cost(options, layouts).unet + regions)

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once, pass by pass."""
        options, rngs = self.options, generators(seeds)
        regions = passes(layouts, options.order, self.side, options.coverage)
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
        changes = {} if variant.steps_offset is None else {"steps_offset": variant.steps_offset}
        schedule = self.model.schedule(self.options.steps, **changes)
        timesteps = schedule.timesteps[-self.options.steps_of_pass :]
        trials = [rng for rng in rngs for _ in range(count)]
        sources, holes = source.repeat_interleave(count, 0), mask.repeat_interleave(count, 0)
        start = self.start(trials)
        if not variant.from_noise:
            start = schedule.add_noise(sources, start, timesteps[:1])
        candidates = sample(
            self.predictor([prompt for prompt in prompts for _ in range(count)]),
            schedule,
            timesteps,
            latents=start,
            source=sources,
            masks=dilated(holes, self.options.dilation),
            noises=(gaussian(trials, start.shape[1:]).to(start) for _ in timesteps),
            after=variant.after,
            progress=progress,
        )
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
        size = (self.clip.size, self.clip.size)
        masked = F.interpolate(images * hole, size, mode="bilinear", antialias=True)
        texts = self.clip.encode_texts(prompts)
        texts = texts.repeat_interleave(len(latents) // len(prompts), 0)
        return (self.clip.encode_images(masked) * texts).sum(1)
