"""TCIG: stage 1 places the objects, stage 2 makes them an image."""

import hashlib
import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Literal

from PIL import Image

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.methods.base import Cost, Method, Progress
from tcig.methods.draws import generators
from tcig.methods.guides import load_guide
from tcig.methods.two_stage.first import STARTS, FirstOptions, FirstStage, start_image
from tcig.methods.two_stage.second import SecondOptions, SecondStage
from tcig.models.clip import folded, load_clip
from tcig.models.devices import DEVICE, Compute
from tcig.models.images import to_pil
from tcig.models.kept import kept
from tcig.models.segmentation import DEEPLABV3
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import identity_of, locate

KEPT = 2048
"""Images of stage 1 that a process keeps for rows that share them; ours."""
_kept: OrderedDict[str, Image.Image] = OrderedDict()


@dataclass(frozen=True)
class Options:
    """Options of `tcig`."""

    stages: Literal["both", "first", "second"] = "both"
    """Both, or one alone: the image of stage 1, or stage 2 from noise."""
    first: FirstOptions = field(default_factory=FirstOptions)
    second: SecondOptions = field(default_factory=SecondOptions)


class TwoStage(Method):
    """VQGAN+CLIP under segmentation guides, then image-to-image diffusion."""

    Options = Options
    version = 2

    def __init__(self, context, options):
        super().__init__(context, options)
        self._first = self._second = None
        self._identities: dict[str, str] = {}
        if options.stages != "second":
            self._first = self._first_stage(options.first)
        if options.stages != "first":
            self._second = SecondStage(options.second, context.size, context.compute)
            self._identities["second"] = self._second.identity

    @classmethod
    def sources(cls, options) -> tuple[str, ...]:
        """Of each network that these options use; shipped guides and files aside."""
        first, found = options.first, []
        if options.stages != "second":
            found.append(first.vqgan)
            found += [first.clip] if first.clip_weight else []
            found += [DEEPLABV3] if first.guide_weight and DEEPLABV3 in first.guides else []
        if options.stages != "first":
            found += filter(None, [options.second.pipeline, options.second.upscaler])
        return tuple(found)

    @classmethod
    def cost(cls, options, layouts):
        """The steps of stage 1, the evaluations of stage 2."""
        first = 0 if options.stages == "second" else options.first.iterations
        second = {
            "both": options.second.evaluations,
            "first": 0,
            "second": options.second.evaluations_from_noise,
        }[options.stages]
        return Cost(second * len(layouts), first * len(layouts))

    def _first_stage(self, options: FirstOptions) -> FirstStage:
        compute = self.context.compute
        if compute.device.type == "mps":
            raise InputError(
                "stage 1 does not run on MPS: PyTorch lacks the gradient of grid_sample there, and "
                f"its adaptive pooling is wrong or missing. Set {DEVICE}=cpu."
            )
        vqgan, identity = _vqgan(options.vqgan, compute)
        self._identities["vqgan"] = identity
        side = options.size or self.context.size
        if side % vqgan.factor:
            raise InputError(
                f"stage 1 cannot make images of {side} px: give first.size a multiple of "
                f"{vqgan.factor}."
            )
        if options.start not in STARTS:
            self._identities["start"] = sha256(start_image(options.start))
        clip = _clip(options.clip, compute) if options.clip_weight else None
        if clip:
            self._identities["clip"] = clip.identity
        if options.guide_weight:
            for guide in options.guides:
                self._identities[f"guide {guide}"] = load_guide(guide, compute).identity
        return FirstStage(options, vqgan, clip, side, compute)

    @property
    def weights(self) -> dict[str, str]:
        """Of each network that these options use."""
        return dict(self._identities)

    def generate(self, layouts, seeds, callback=None):
        """Draws all layouts at once, both stages."""
        iterations = self.options.first.iterations if self._first else 0
        progress = Progress(callback, max(iterations + self.stage2_steps(), 1))
        if self._first is None:
            captions = [each.caption for each in layouts]
            return self._second.draw(captions, generators(seeds), progress)
        images = self.place(layouts, seeds, progress=progress)
        if self._second is None:
            size = (self.context.size,) * 2
            lanczos = Image.Resampling.LANCZOS
            return [i if i.size == size else i.resize(size, lanczos) for i in images]
        return self.refine(layouts, images, seeds, progress)

    def stage2_steps(self) -> int:
        """Of a call of stage 2, if there is one."""
        return self._second.steps(from_noise=self._first is None) if self._second else 0

    def place(self, layouts, seeds, callback=None, progress=None) -> list[Image.Image]:
        """Stage 1 of each layout, at its own size; shared among rows that differ only later.

        `callback` watches it, see `FirstStage`; `progress` is told of each iteration.
        """
        keys = [self._key(layout, seed) for layout, seed in zip(layouts, seeds, strict=True)]
        found = [None if callback else _kept.get(key) for key in keys]
        wanted = [n for n, image in enumerate(found) if image is None]
        if wanted:
            draws = generators([seeds[n] for n in wanted])
            drawn = self._first([layouts[n] for n in wanted], draws, callback, progress)
            for n, image in zip(wanted, to_pil(drawn.mul(255)), strict=True):
                found[n] = _kept[keys[n]] = image
        elif progress:
            progress.step(self.options.first.iterations)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
        return found

    def refine(self, layouts, images, seeds, progress=None) -> list[Image.Image]:
        """Stage 2 of each image of stage 1; other seeds give other outputs of the same image."""
        draws = generators([_second_seed(seed) for seed in seeds])
        captions = [each.caption for each in layouts]
        return self._second.refine(images, captions, draws, progress)

    def _key(self, layout, seed: int) -> str:
        own = {k: v for k, v in self._identities.items() if k != "second"}
        parts = [layout.model_dump_json(), seed, self._first.side, own, asdict(self.options.first)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _second_seed(seed: int) -> int:
    """Of stage 2: not that of stage 1, whose first draws would be its noise again."""
    digest = hashlib.sha256(f"stage 2/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@kept
def _vqgan(source: str, compute: Compute):
    return load_vqgan(locate(source)).to(compute.device), identity_of(source)


@kept
def _clip(source: str, compute: Compute):
    return folded(load_clip(source, compute))
