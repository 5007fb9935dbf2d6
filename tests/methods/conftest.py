"""Layouts of the embedded data; samplers on the miniature weights."""

from contextlib import contextmanager

import pytest
from random_networks import write_adapter

from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.manifest import build_layouts
from tcig.methods.base import Context
from tcig.methods.control import ControlNet, Gligen, T2IAdapter
from tcig.methods.inpainting import Inpainting

SIZE = 64


@pytest.fixture(scope="session")
def layouts():
    """Those of the embedded data, by id."""
    return {layout.id: layout for layout in build_layouts(FOLDER, Filter())[1]}


@pytest.fixture(scope="session")
def own_weights(open_rows, tmp_path_factory):
    """What a kind of method needs beside or in place of the miniature text-to-image model."""
    adapter = str(write_adapter(tmp_path_factory.mktemp("random") / "adapter"))
    return {
        Inpainting: {"weights": "mini:stable-diffusion-inpainting"},
        ControlNet: open_rows["controlnet"] | {"palette": "voc"},
        T2IAdapter: {"control": adapter, "palette": "voc"},
        Gligen: open_rows["gligen"] | {"grounded": 0.5},
    }


@pytest.fixture
def sampler(own_weights):
    """A sampling method with the miniature weights, random ones where there are none, 4 steps."""

    def build(kind, **options):
        settings = {"weights": "mini:stable-diffusion", "steps": 4} | own_weights.get(kind, {})
        return kind(Context(SIZE), kind.Options(**settings | options))

    return build


@pytest.fixture
def watched():
    """`with watched(model) as inputs:` the UNet's inputs, call by call."""

    @contextmanager
    def watch(model):
        inputs = []
        handle = model.unet.register_forward_pre_hook(
            lambda unet, given: inputs.append(given[0].clone())
        )
        try:
            yield inputs
        finally:
            handle.remove()

    return watch
