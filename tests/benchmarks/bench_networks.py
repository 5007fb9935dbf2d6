"""Each miniature network's pass against its own products alone, and against the machine's rates.

    OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_networks.py --benchmark-json=FILE

By one thread, as a lane of two has it, in the batches of one lane: of 4 layouts under `mini`, of 12
under `mini-fast`.
The roofline of a network is the time that its convolutions and matrix products take in its order,
on operands of their shapes, with nothing between them; that of both adds, for every other
operation, the time to read its operands and write its results at the machine's rate of copying.
"""

from statistics import median

import pytest
import torch
from benchmarks.gauge import Layers, least_seconds, median_seconds, products, rates

from tcig.methods.guides import load_guide
from tcig.models.clip import fuse_clip, load_clip
from tcig.models.devices import Compute, has_bf16
from tcig.models.diffusion import load_diffusion
from tcig.models.vqgan import load_vqgan
from tcig.models.weights import locate

PRECISIONS = ("float32", "bfloat16") if has_bf16() else ("float32",)
TURNS = 5
"""Of the products and of the whole: the machine drifts."""


def forward(network, *inputs, **others):
    """A pass without gradients."""

    @torch.inference_mode()
    def work():
        network(*inputs, **others)

    return work


def both_ways(network, inputs, compute):
    """A pass and the gradient of its sum by its input, as stage 1 takes them."""
    inputs = inputs.requires_grad_()

    def work():
        with compute.autocast():
            found = network(inputs)
        found.float().sum().backward()
        inputs.grad = None

    return work


def passes(name, compute):
    """The pass of a network, and the images that it is of."""
    if name.startswith(("UNet", "VAE")):
        model = load_diffusion("mini:stable-diffusion", compute)
        count = int(name.split()[-1])
        side, dtype = model.side(64), next(model.unet.parameters()).dtype
        latents = torch.randn(count, model.channels, side, side)
        if name.startswith("VAE"):
            return forward(model.decode, latents), count
        texts = model.encode_prompts(["a cat"])[0].expand(count, -1, -1).to(dtype)
        t = torch.tensor(500)
        return forward(model.unet, latents.to(dtype), t, encoder_hidden_states=texts), count
    if name.startswith("VQGAN"):
        vqgan = load_vqgan(locate("mini:vqgan"))
        codes = torch.randn(4, vqgan.codebook.shape[1], 16, 16)
        return both_ways(vqgan.decode, codes, compute), 4
    if name.startswith("CLIP"):
        clip = fuse_clip(load_clip("mini:clip"))
        return both_ways(clip.encode_images, torch.rand(32, 3, 64, 64), compute), 32
    return both_ways(load_guide("mini:guide").module, torch.rand(4, 3, 128, 128), compute), 4


@pytest.fixture(scope="module")
def able():
    """The machine's rates by type."""
    return {name: rates(getattr(torch, name)) for name in PRECISIONS}


@pytest.mark.benchmark(group="roofline")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "name", ["UNet, 2", "UNet, 8", "UNet, 24", "VAE decoder, 12", "VQGAN", "CLIP", "guide"]
)
def test_network(benchmark, able, name, precision):
    work, images = passes(name, Compute(on="cpu", precision=precision, channels_last="auto"))
    done = products(work)
    with Layers() as layers:
        work()
    turns = [(layers.seconds(), median_seconds(work)) for _ in range(TURNS)]
    between = layers.moved / able[precision]["bytes"]
    benchmark.pedantic(work, rounds=9, warmup_rounds=2)
    seconds, total = benchmark.stats.stats.median, sum(done.values())
    alone = seconds * median(part / whole for part, whole in turns)
    benchmark.extra_info.update(
        {
            "network": name.replace(",", ", inputs:"),
            "arithmetic": precision,
            "ms an input": 1000 * seconds / images,
            "GFLOP an input": total / images / 1e9,
            "GFLOP/s": total / seconds / 1e9,
            "of the machine's best": f"{least_seconds(done, able[precision]) / seconds:.0%}",
            "products alone, ms": 1000 * alone / images,
            "reached": f"{alone / seconds:.0%}",
            "with the rest's bytes, ms": 1000 * (alone + between) / images,
            "of both reached": f"{(alone + between) / seconds:.0%}",
            "of them convolutions": f"{done['convolution'] / total:.0%}",
        }
    )
