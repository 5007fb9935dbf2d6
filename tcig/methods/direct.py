"""No VQGAN: the segmentation loss guides the diffusion sampler itself.

Universal Guidance (Bansal et al. 2023, arXiv 2302.07121), forward guidance with self-recurrence, by
its code (arpitbansal297/Universal-Guided-Diffusion 2ee331d, ddim_with_grad.py), with TCIG's loss
(Eq. 1) and guides in place of its cross-entropy. TCIG's reviewers asked why it is not this.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from diffusers import DDIMScheduler
from torch import Generator, Tensor

from tcig.data.errors import InputError
from tcig.methods.base import Cost, Progress
from tcig.methods.draws import gaussian, generators
from tcig.methods.guides import (
    Guided,
    Over,
    Prediction,
    Views,
    load_guide,
    prepare_guides,
    summed_loss,
)
from tcig.methods.sampling import SamplingMethod, SamplingOptions, evaluations
from tcig.models.devices import DEVICE
from tcig.models.diffusion import Diffusion, to_images
from tcig.models.images import check_finite
from tcig.models.segmentation import DEEPLABV3


@dataclass(frozen=True)
class DirectOptions(SamplingOptions):
    """Defaults of the guide are those of TCIG's stage 1."""

    guides: tuple[str, ...] = ("deeplabv3_resnet101",)
    """Experts, the first that knows a class guides it."""
    weight: float = 400.0
    """Of the loss's gradient, s of Eq. 6: its README's for segmentation, whose loss is another."""
    recurrence: int = 10
    """k: times that a step is guided and, but for the last, noised again; its README's."""
    prediction: Prediction = "softmax"
    """m_p of TCIG's Eq. 1."""
    over: Over = "layout"
    """Planes of Eq. 1: of the layout's classes and the background, or all."""
    guide_size: int | None = None
    """Side at which masks are compared, pixels; None: the guide's own."""
    views: Views = field(default_factory=Views)
    """Random views that the guides see in place of the image; none in the paper."""

    def __post_init__(self):
        super().__post_init__()
        if self.recurrence < 1:
            raise ValueError(f"recurrence {self.recurrence}: it counts from 1")
        if not self.guides:
            raise ValueError("guides is empty: name one or more")


class DirectGuidance(SamplingMethod):
    """Text-to-image from the caption, each step moved down the gradient of the guides' loss."""

    Options = DirectOptions
    version = 2

    def __init__(self, context, options):
        compute = context.compute
        if options.views.count and compute.device.type == "mps":
            raise InputError(
                "views of the guide do not run on MPS: PyTorch lacks the gradient of grid_sample "
                f"there. Set {DEVICE}=cpu."
            )
        # The gradient passes the VAE and the UNet, so neither may leave the device in between.
        compute = compute.model_copy(update={"offload": False})
        super().__init__(replace(context, compute=compute), options)
        self._guides = {g: load_guide(g, context.compute).identity for g in options.guides}

    @classmethod
    def sources(cls, options) -> tuple[str, ...]:
        """The diffusion model and the guides; shipped guides and files aside."""
        return (options.weights, *(each for each in options.guides if each == DEEPLABV3))

    @classmethod
    def cost(cls, options, layouts):
        """The caption in every repetition of every step, and its guidance."""
        steps = options.steps * options.recurrence
        unet = sum(steps * evaluations(each.caption, options) for each in layouts)
        return Cost(unet, steps * len(layouts))

    @property
    def weights(self) -> dict[str, str]:
        """Identities of the diffusion model and of each guide."""
        return super().weights | {f"guide {name}": each for name, each in self._guides.items()}

    def generate(self, layouts, seeds, callback=None):
        """Draws all layouts at once."""
        options, draws = self.options, generators(seeds)
        guided = prepare_guides(
            options.guides, layouts, options.guide_size, options.over, self.context.compute
        )
        latents = self.start(draws)
        texts, calls = self.prompted([layout.caption for layout in layouts])
        texts = texts.clone()  # made in inference mode, which no gradient may pass

        def predict(latents: Tensor, timestep: Tensor) -> Tensor:
            return self.model.guided(latents, timestep, texts, calls, options.guidance)

        def loss(images: Tensor) -> Tensor:
            losses = self._loss(guided, images, draws)
            if callback:
                callback("guide", loss=losses.detach())
            return losses

        noises = self._noises(draws, latents)
        schedule = self.model.schedule(options.steps)
        progress = Progress(callback, options.steps * options.recurrence)
        latents = sample(self.model, schedule, latents, predict, loss, noises, options, progress)
        with torch.inference_mode():
            return to_images(self.model.decode(latents))

    def _loss(
        self,
        guided: Sequence[Guided],
        images: Tensor,
        draws: Sequence[Generator],
    ) -> Tensor:
        options, compute = self.options, self.context.compute
        losses, _ = summed_loss(
            guided, images, options.prediction, compute, False, options.views, draws
        )
        return losses

    def _noises(self, draws, latents: Tensor) -> Iterable[Tensor]:
        """Noise of each repetition, from the samples' own generators."""
        while True:
            yield gaussian(draws, latents.shape[1:]).to(latents.device)


def sample(
    model: Diffusion,
    schedule: DDIMScheduler,
    latents: Tensor,
    predict: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Tensor], Tensor],
    noises: Iterable[Tensor],
    options: DirectOptions,
    progress: Progress | None = None,
) -> Tensor:
    """DDIM under forward universal guidance (Algorithm 1 without backward guidance).

    Args:
        model: decodes the clean latents that a step predicts.
        schedule: of its steps.
        latents: noise to start from, (N, C, h, w).
        predict: latents and timestep -> the guided prediction of noise or v, differentiable.
        loss: images (N, 3, H, W) around [0, 1] -> losses (N,).
        noises: (N, C, h, w) each, one for each repetition of a step but its last.
        options: `weight` and `recurrence`.
        progress: is told of each repetition of a step.

    Returns:
        Clean latents, (N, C, h, w).
    """
    noises, progress = iter(noises), progress or Progress()
    for timestep in schedule.timesteps:
        kept = schedule.alphas_cumprod[timestep].to(latents.device)
        before = _before(schedule, timestep).to(latents.device)
        for repetition in progress.over(range(options.recurrence)):
            if repetition:
                share = kept / before  # back from the step before
                latents = share.sqrt() * latents + (1 - share).sqrt() * next(noises)
            latents = latents.detach().requires_grad_()
            with torch.enable_grad():
                output = predict(latents, timestep)
                clean = schedule.step(output, timestep, latents).pred_original_sample
                images = (model.decode(clean, clamped=False) + 1) / 2
                gradient = differentiate(loss, images, latents, f"timestep {int(timestep)}")
            with torch.no_grad():
                moved = (1 - kept).sqrt() * options.weight * gradient  # of the noise: Eq. 6
                if schedule.config.prediction_type == "v_prediction":
                    moved = moved / kept.sqrt()
                latents = schedule.step(output + moved, timestep, latents).prev_sample
    return latents.detach()


def differentiate(
    loss: Callable[[Tensor], Tensor], images: Tensor, latents: Tensor, step: str
) -> Tensor:
    """Differentiates a loss of images with respect to latents, whatever number format lies between.

    The loss is a mean over all pixels, so its gradient is too small for float16, whose least number
    is 6e-8: on its way through the VAE and the UNet most of it would become zero. Each sample's
    gradient is therefore multiplied by a power of two, which float32 and bfloat16 hold exactly, and
    divided by it in the end. Where it enters the VAE its largest value is then between 1 and 2; any
    power from 1/16 to 256 of that served as well on the miniature networks.

    Args:
        loss: images (N, 3, H, W) -> losses (N,).
        images: (N, 3, H, W), computed from the latents.
        latents: (N, C, h, w).
        step: for messages.

    Returns:
        The gradient of each sample's loss, (N, C, h, w).

    Raises:
        FloatingPointError: a loss or a gradient is not finite, or a gradient is zero.
    """
    seen = images.detach().requires_grad_()
    losses = loss(seen)
    check_finite(losses, f"{step}: the guides' loss")
    (slope,) = torch.autograd.grad(losses.sum(), seen)
    largest = slope.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    scale = torch.exp2(-largest.log2().floor())
    (gradient,) = torch.autograd.grad(images, latents, slope * scale)
    gradient = gradient / scale
    check_finite(gradient, f"{step}: the gradient of the guides' loss")
    if not gradient.flatten(1).any(1).all():
        raise FloatingPointError(f"{step}: the gradient of the guides' loss is zero")
    return gradient


def _before(schedule: DDIMScheduler, timestep: Tensor) -> Tensor:
    """The share of signal that a step leaves, as in `DDIMScheduler.step`."""
    stride = schedule.config.num_train_timesteps // schedule.num_inference_steps
    earlier = int(timestep) - stride
    return schedule.alphas_cumprod[earlier] if earlier >= 0 else schedule.final_alpha_cumprod
