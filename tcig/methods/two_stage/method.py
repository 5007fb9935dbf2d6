"""TCIG: stage 1 places the objects, stage 2 refines the image."""

import hashlib
import io
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from tcig.data.files import InputError, sha256, write_whole
from tcig.data.layout import Layout
from tcig.data.pictures import open_picture
from tcig.methods.base import SILENT, Cost, Method, Progress, generators
from tcig.methods.guides import load_guide
from tcig.methods.two_stage.stage1 import STARTS, Stage1, Stage1Options, open_start
from tcig.methods.two_stage.stage2 import Stage2, Stage2Options, resize_images
from tcig.models.clip import Clip, fuse_clip, load_clip
from tcig.models.devices import DEVICE, Compute, kept
from tcig.models.diffusion import to_pil
from tcig.models.vqgan import VQGAN, load_vqgan
from tcig.models.weights import locate


@dataclass(frozen=True)
class Options:
    """Options of `tcig`."""

    stages: Literal["both", "first", "second"] = "both"
    """Both, or one alone: the image of stage 1, or stage 2 from noise."""
    first: Stage1Options = field(default_factory=Stage1Options)
    second: Stage2Options = field(default_factory=Stage2Options)

    def uses(self, option: str) -> bool:
        """Whether a stage, `first` or `second`, is run."""
        return self.stages in ("both", option)

    @property
    def iterations(self) -> int:
        """Steps of stage 1; 0 without it."""
        return self.first.iterations if self.uses("first") else 0

    @property
    def stage2_steps(self) -> int:
        """Steps of stage 2 for one call, about, as a schedule may take one more; 0 without it."""
        if not self.uses("second"):
            return 0
        strength = self.second.strength if self.uses("first") else 1
        return int(self.second.steps * strength) * (2 if self.second.upscaler else 1)


class TwoStage(Method):
    """VQGAN+CLIP under segmentation guides, then image-to-image diffusion."""

    Options = Options
    version = 2

    def __init__(self, context, options):
        super().__init__(context, options)
        self._stage1 = self._stage2 = None
        if options.uses("first"):
            self._stage1 = _set_up_stage1(options.first, context.size, context.compute)
        if options.uses("second"):
            self._stage2 = Stage2(options.second, context.size, context.compute)

    @classmethod
    def cost(cls, options, layouts):
        """The steps of stage 1, the evaluations of stage 2."""
        unet = options.stage2_steps * (2 if options.second.guided else 1)
        return Cost(unet * len(layouts), options.iterations * len(layouts))

    @property
    def weights(self) -> dict[str, str]:
        """Identities of the networks, and of an image that stage 1 starts from."""
        start = self.options.first.start
        if self._stage1 is None or start in STARTS:
            return super().weights
        return super().weights | {"start": sha256(Path(start))}

    def generate(self, layouts, seeds, callback=None):
        """Generates all layouts at once, both stages."""
        steps = self.options.iterations + self.options.stage2_steps
        progress = Progress(callback, max(steps, 1))
        if self._stage1 is None:
            captions = [layout.caption for layout in layouts]
            return self._stage2.text_to_image(captions, generators(seeds), progress)
        images = self.place(layouts, seeds, progress=progress)
        if self._stage2 is None:
            return resize_images(images, self.context.size)
        return self.refine(layouts, images, seeds, progress)

    def place(self, layouts, seeds, callback=None, progress=SILENT) -> list[Image.Image]:
        """Generates the image of stage 1 of each layout, at its own size.

        Rows that differ only in stage 2 share the images through files in `context.stage1`. A
        `callback` watches the optimisation, see `Stage1`; the images are then made anew.
        """
        paths = [self._path(layout, seed) for layout, seed in zip(layouts, seeds, strict=True)]
        images = [None if callback else _stored(path) for path in paths]
        missing = [n for n, image in enumerate(images) if image is None]
        if missing:
            rngs = generators([seeds[n] for n in missing])
            pixels = self._stage1([layouts[n] for n in missing], rngs, callback, progress)
            for n, image in zip(missing, to_pil(pixels.mul(255)), strict=True):
                images[n] = image
                _store(paths[n], image)
        else:
            progress.step(self.options.iterations)
        return images

    def refine(self, layouts, images, seeds, progress=SILENT) -> list[Image.Image]:
        """Refines images of stage 1; other seeds give other outputs of the same image."""
        rngs = generators([_stage2_seed(seed) for seed in seeds])
        captions = [layout.caption for layout in layouts]
        return self._stage2.refine(images, captions, rngs, progress)

    def _path(self, layout: Layout, seed: int) -> Path | None:
        """File of an image of stage 1, named by all that it depends on."""
        folder, compute = self.context.stage1, self.context.compute
        if folder is None or not folder.parent.is_dir():
            return None
        weights = {part: name for part, name in self.weights.items() if part != "second"}
        parts = [layout.model_dump_json(), seed, self._stage1.side, weights]
        parts += [asdict(self.options.first), self.version]
        parts += [compute.device.type, compute.arithmetic]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return folder / f"{digest}.png"


def _stored(path: Path | None) -> Image.Image | None:
    """A stored image of stage 1; None if it is missing or damaged."""
    if path is not None:
        with suppress(Exception):  # Pillow raises nearly anything on damaged files
            with Image.open(path, formats=["PNG"]) as image:
                image.verify()  # each chunk by its checksum, which decoding does not look at
            image = open_picture(path)
            return image if image.mode == "RGB" else None  # another program may have changed it
    return None


def _store(path: Path | None, image: Image.Image) -> None:
    if path is None:
        return
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with suppress(OSError, InputError):  # the next row makes the image again
        path.parent.mkdir(exist_ok=True)
        write_whole(path, buffer.getvalue(), durable=False)


def _stage2_seed(seed: int) -> int:
    """The seed of stage 2, so that its noise does not repeat the random numbers of stage 1."""
    digest = hashlib.sha256(f"stage 2/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _set_up_stage1(options: Stage1Options, size: int, compute: Compute) -> Stage1:
    if compute.device.type == "mps":
        raise InputError(
            "stage 1 does not run on MPS: PyTorch lacks the gradient of grid_sample there, and "
            f"its adaptive pooling is wrong or missing. Set {DEVICE}=cpu."
        )
    vqgan = _load_vqgan(options.vqgan, compute)
    side = options.size or size
    if side % vqgan.factor:
        raise InputError(
            f"stage 1 cannot make images of {side} px: give first.size a multiple of "
            f"{vqgan.factor}."
        )
    if options.start not in STARTS:
        open_start(options.start)
    if options.uses("guides"):
        for guide in options.guides:
            load_guide(guide, compute)
    clip = _load_fused_clip(options.clip, compute) if options.uses("clip") else None
    return Stage1(options, vqgan, clip, side, compute)


@kept
def _load_vqgan(source: str, compute: Compute) -> VQGAN:
    return load_vqgan(locate(source)).to(compute.device)


@kept
def _load_fused_clip(source: str, compute: Compute) -> Clip:
    return fuse_clip(load_clip(source, compute))
