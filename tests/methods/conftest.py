"""Layouts of the embedded data; samplers on the miniature weights; a check of refusals."""

from contextlib import contextmanager

import pytest

from tcig.data.build import build_layouts
from tcig.data.emoji import FOLDER
from tcig.data.errors import InputError
from tcig.data.filters import Filter
from tcig.methods.base import Context

SIZE = 64


@pytest.fixture(scope="session")
def layouts():
    """Those of the embedded data, by id."""
    return {layout.id: layout for layout in build_layouts(FOLDER, Filter())[1]}


@pytest.fixture
def sampler():
    """A sampling method with the miniature weights, 4 steps."""

    def build(kind, **options):
        suffix = "-inpainting" if kind.__name__ == "Inpainting" else ""
        settings = {"weights": f"mini:stable-diffusion{suffix}", "steps": 4} | options
        return kind(Context(SIZE), kind.Options(**settings))

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


@pytest.fixture(scope="session")
def refused():
    """`with refused("b"):` an InputError of one line without double spaces that says b."""

    @contextmanager
    def check(*parts):
        with pytest.raises(InputError) as caught:
            yield caught
        text = str(caught.value)
        assert "\n" not in text
        assert "  " not in text
        for part in parts:
            assert part in text

    return check
