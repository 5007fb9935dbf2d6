"""No VQGAN: the segmentation loss guides the diffusion sampler itself.

Universal Guidance (Bansal et al. 2023, arXiv 2302.07121), forward guidance with self-recurrence, by
its code (arpitbansal297/Universal-Guided-Diffusion 2ee331d, ddim_with_grad.py), with TCIG's loss
(Eq. 1) and guides in place of its cross-entropy. TCIG's reviewers asked why it is not this.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from tcig.data.files import InputError
from tcig.methods.base import Progress, gaussian, generators
from tcig.methods.guides import GuideOptions, prepare_guides, summed_loss
from tcig.methods.sampling import SamplingMethod, SamplingOptions
from tcig.models.devices import DEVICE
from tcig.models.diffusion import check_finite, to_images


@dataclass(frozen=True)
class DirectOptions(GuideOptions, SamplingOptions):
    """Options of `direct-guidance`."""

    weight: float = 400.0
    """Factor on the loss's gradient, s of Eq. 6; the README's for segmentation by another loss."""
    recurrence: int = 10
    """k: how often each step is guided, with noise added again in between; the README's."""

    def __post_init__(self):
        super().__post_init__()
        if self.recurrence < 1:
            raise ValueError(f"recurrence must be at least 1, got {self.recurrence}")
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

    @classmethod
    def cost(cls, options, layouts):
        """The caption in every repetition of every step, and its guidance."""
        cost = super().cost(options, layouts)
        iterations = options.steps * options.recurrence * len(layouts)
        return cost._replace(unet=cost.unet * options.recurrence, iterations=iterations)

    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once, by Algorithm 1 without backward guidance."""
        options, compute, model = self.options, self.context.compute, self.model
        rngs, schedule = generators(seeds), model.schedule(options.steps)
        progress = Progress(callback, options.steps * options.recurrence)
        guides = prepare_guides(options, layouts, compute)
        predict = self.predictor([layout.caption for layout in layouts])

        def loss(images: Tensor) -> Tensor:
            return summed_loss(guides, images, options, rngs, compute)[0]

        latents = self.start(rngs)
        for t in schedule.timesteps:
            alpha = schedule.alphas_cumprod[t].to(latents.device)
            previous_alpha = _previous_alpha(schedule, t).to(latents.device)
            for repetition in progress.over(range(options.recurrence)):
                if repetition:  # from the step's result back to its timestep
                    ratio = alpha / previous_alpha
                    noise = gaussian(rngs, latents.shape[1:]).to(latents.device)
                    latents = ratio.sqrt() * latents + (1 - ratio).sqrt() * noise
                latents = latents.detach().requires_grad_()
                with torch.enable_grad():
                    output = predict(latents, t)
                    clean = schedule.step(output, t, latents).pred_original_sample
                    images = (model.decode(clean, clamped=False) + 1) / 2
                    gradient = differentiate(loss, images, latents, f"timestep {int(t)}")
                with torch.no_grad():
                    shift = (1 - alpha).sqrt() * options.weight * gradient  # of the noise: Eq. 6
                    if schedule.config.prediction_type == "v_prediction":
                        shift = shift / alpha.sqrt()
                    latents = schedule.step(output + shift, t, latents).prev_sample
        with torch.inference_mode():
            return to_images(model.decode(latents.detach()))


def differentiate(
    loss: Callable[[Tensor], Tensor], images: Tensor, latents: Tensor, step: str
) -> Tensor:
    """Differentiates a loss of images with respect to latents, through networks of any dtype.

    The loss is a mean over all pixels, so its gradient is too small for float16, whose least number
    is 6e-8: in the VAE and the UNet most of it would become zero. Each sample's gradient is
    therefore multiplied by a power of two, which is exact, and divided by it in the end. Where it
    enters the VAE its largest value is between 1 and 2. On the miniature networks any power from
    1/16 to 256 of that served as well.

    Args:
        loss: images (N, 3, H, W) -> losses (N,).
        images: (N, 3, H, W), computed from the latents.
        latents: (N, C, h, w).
        step: name of the step, for messages.

    Returns:
        The gradient of each sample's loss, (N, C, h, w).

    Raises:
        FloatingPointError: a loss or a gradient is not finite, or a gradient is zero.
    """
    leaves = images.detach().requires_grad_()
    losses = loss(leaves)
    check_finite(losses, f"{step}: the guides' loss")
    (slope,) = torch.autograd.grad(losses.sum(), leaves)
    largest = slope.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    scale = torch.exp2(-largest.log2().floor())
    (gradient,) = torch.autograd.grad(images, latents, slope * scale)
    gradient = gradient / scale
    check_finite(gradient, f"{step}: the gradient of the guides' loss")
    if not gradient.flatten(1).any(1).all():
        raise FloatingPointError(f"{step}: the gradient of the guides' loss is zero")
    return gradient


def _previous_alpha(schedule: DDIMScheduler, timestep: Tensor) -> Tensor:
    """`alphas_cumprod` at the timestep that a step reaches, as in `DDIMScheduler.step`."""
    stride = schedule.config.num_train_timesteps // schedule.num_inference_steps
    previous = int(timestep) - stride
    return schedule.alphas_cumprod[previous] if previous >= 0 else schedule.final_alpha_cumprod
