"""How long a network takes on this device: measured with random weights, before any download."""

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tcig.eval.judges import SOURCES, load_judge
from tcig.methods.guides import load_guide
from tcig.methods.two_stage.first import FirstOptions
from tcig.models.architectures import NETWORKS
from tcig.models.clip import load_clip
from tcig.models.control import load_steering
from tcig.models.devices import Compute, set_tf32
from tcig.models.diffusion import load_diffusion
from tcig.models.segmentation import DEEPLABV3
from tcig.models.store import present
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import local, locate

BATCH = {"cuda": 8, "mps": 2, "cpu": 2}
"""Latents in a probe's call."""
SECONDS = 1.5
"""Of one probe, beyond its first call; with the making of a profile's networks meant to be half a
minute on a GPU, where it was not measured; ours."""
CALLS = 10
"""Of one probe at most, beyond its first: small networks need no `SECONDS`; ours."""
DEEPLABV3_SIDE = 520
"""At which the network sees an image, pixels."""


class Probed(NamedTuple):
    """Seconds on one sample."""

    unet: float
    """Of one evaluation."""
    decode: float
    """Of the VAE's decoder."""


@cache
def probe_diffusion(source: str, size: int, compute: Compute) -> Probed | None:
    """UNet and VAE of a model at `size` pixels; None where its architecture is not known here, or
    it has no UNet or no VAE."""
    if source in NETWORKS and not present(source):
        networks = _blank(source, compute)
        if "unet" not in networks:
            return None
        unet, vae = networks["unet"], networks["vae"]
    elif (place := local(source) or present(source)) and all(
        (place / part).is_dir() for part in ("unet", "vae")
    ):
        model = load_diffusion(source, compute)
        unet, vae = model.unet, model.vae
    else:
        return None
    count = BATCH[compute.device.type]
    side = size // 2 ** (len(vae.config.block_out_channels) - 1)
    inputs = _unet_inputs(unet, count, side)
    latents = _noise(unet, 1, vae.config.latent_channels, side, side)
    with torch.inference_mode():
        evaluation = _seconds(lambda: unet(**inputs).sample, compute) / count
        return Probed(evaluation, _seconds(lambda: vae.decode(latents).sample, compute))


def _unet_inputs(unet: nn.Module, count: int, side: int) -> dict:
    config = unet.config
    inputs = {
        "sample": _noise(unet, count, config.in_channels, side, side),
        "timestep": torch.tensor(500, device=unet.device),
        "encoder_hidden_states": _noise(unet, count, 77, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        times = _noise(unet, count, 6)
        texts = _noise(unet, count, pooled)
        inputs["added_cond_kwargs"] = {"text_embeds": texts, "time_ids": times}
    return inputs


@cache
def probe_control(source: str, size: int, compute: Compute) -> float | None:
    """One evaluation of a ControlNet at `size` pixels; None where it is not known here."""
    if source in NETWORKS and not present(source):
        network = _blank(source, compute)[""]
    elif local(source) or present(source):
        network = load_steering(source, "controlnet", compute).network
    else:
        return None
    count = BATCH[compute.device.type]
    side = size // 2 ** (len(network.config.conditioning_embedding_out_channels) - 1)
    inputs = _unet_inputs(network, count, side)
    inputs["controlnet_cond"] = _noise(network, count, 3, size, size)
    with torch.inference_mode():
        return _seconds(lambda: network(**inputs), compute) / count


def probe_iteration(options: FirstOptions, size: int, compute: Compute) -> float:
    """One step of stage 1 on one image: its networks' forward and backward passes."""
    total = _decoder(options.vqgan, options.size or size, compute)
    if options.clip_weight:
        total += _encoder(options.clip, options.cutouts, compute)
    if options.guide_weight:
        total += probe_guides(options.guides, compute)
    return total


def probe_guides(guides: Sequence[str], compute: Compute) -> float:
    """The loss of all guides on one image, forward and backward."""
    return sum(_guide(guide, compute) for guide in guides)


@cache
def _decoder(source: str, side: int, compute: Compute) -> float:
    vqgan = _load(source, lambda s: load_vqgan(locate(s)), compute)
    latents = _noise(vqgan, 1, vqgan.codebook.shape[1], side // vqgan.factor, side // vqgan.factor)
    return _both_ways(vqgan.decode, latents, compute)


@cache
def _encoder(source: str, cutouts: int, compute: Compute) -> float:
    clip = _load(source, lambda s: load_clip(s, compute).module, compute)
    side = clip.visual.image_size
    side = side[0] if isinstance(side, tuple) else side
    return _both_ways(clip.encode_image, _noise(clip, cutouts, 3, side, side), compute)


@cache
def _guide(source: str, compute: Compute) -> float:
    if source == DEEPLABV3 and not present(source):
        network, side = _blank(source, Compute(on=compute.on))[""], DEEPLABV3_SIDE
    else:
        loaded = load_guide(source, compute)
        network, side = loaded.module, loaded.size
    images = _noise(network, 1, 3, side, side)

    def logits(given: Tensor) -> Tensor:
        found = network(given)
        return found["out"] if isinstance(found, dict) else found

    return _both_ways(logits, images, compute)


def probe_judge(name: str, size: int, compute: Compute) -> float:
    """One image under a judge, in float32 without TF32."""
    set_tf32(False)
    plain = Compute(on=compute.on)
    source = SOURCES.get(name.partition("=")[0])
    if source is None or "=" in name or present(source):
        from PIL import Image

        judge = load_judge(name)[1]
        image = Image.new("RGB", (size, size), (127, 127, 127))
        return _seconds(lambda: judge.segment([image]), plain)
    network = _blank(source, plain, exact=True)[""]
    side = DEEPLABV3_SIDE if source == DEEPLABV3 else 800 if name.endswith("-800") else 384
    images = _noise(network, 1, 3, side, side)
    with torch.inference_mode():
        return _seconds(lambda: network(images), plain)


def _load(source: str, load: Callable, compute: Compute) -> nn.Module:
    if source in NETWORKS and not present(source):
        return _blank(source, Compute(on=compute.on))[""]
    return load(source).to(compute.device)


def _blank(name: str, compute: Compute, exact: bool = False) -> dict[str, nn.Module]:
    """A model of the catalogue whose parameters are small noise, quick to make.

    Args:
        name: as said.
        compute: device and dtype.
        exact: made by its own initialisation, as what depends on its buffers must be.
    """
    if exact:
        networks = NETWORKS[name]()
    else:
        before = torch.get_default_dtype()
        torch.set_default_dtype(compute.dtype)
        try:
            with torch.device("meta"):
                networks = NETWORKS[name]()
        finally:
            torch.set_default_dtype(before)
        networks = {part: net for part, net in networks.items() if part in ("", "unet", "vae")}
    for network in networks.values():
        network.eval().requires_grad_(False)
        if exact:
            network.to(compute.device)
            continue
        network.to_empty(device=compute.device)
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.normal_(0, 0.02).abs_()
    return networks


def _noise(network: nn.Module, *shape: int) -> Tensor:
    like = next(network.parameters())
    return torch.randn(shape, device=like.device, dtype=like.dtype)


def _both_ways(forward: Callable[[Tensor], Tensor], given: Tensor, compute: Compute) -> float:
    def call() -> None:
        inputs = given.clone().requires_grad_()
        with compute.autocast():
            found = forward(inputs)
        found.float().sum().backward()

    return _seconds(call, compute)


def _seconds(call: Callable[[], object], compute: Compute) -> float:
    """Of one call: the mean over `SECONDS` or `CALLS` after a first, or that if it took longer."""
    first = _timed(call, compute)
    if first > SECONDS:
        return first
    times = []
    while sum(times) < SECONDS and len(times) < CALLS:
        times.append(_timed(call, compute))
    return sum(times) / len(times)


def _timed(call: Callable[[], object], compute: Compute) -> float:
    started = time.perf_counter()
    call()
    if compute.device.type == "cuda":
        torch.cuda.synchronize()
    if compute.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - started
