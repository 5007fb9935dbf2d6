"""No test leaves this machine; servers, and layouts of boxes."""

import os
import re
import threading
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from servers import Hub, Server

from tcig.data import transfer
from tcig.data.files import InputError
from tcig.data.layout import Layout, Region
from tcig.data.masks import encode


def pytest_addoption(parser):
    """How long the fuzz test runs."""
    parser.addoption("--fuzz", type=int, default=500, help="malformed inputs to try")
    parser.addoption("--fuzz-seed", type=int, default=0, help="of their generator")


@pytest.fixture(autouse=True)
def weights_store(tmp_path, monkeypatch):
    """An empty folder of weights, no hub, and no waiting between retries."""
    monkeypatch.setattr(transfer, "BACKOFF", 0)
    folder = tmp_path / "weights-store"
    monkeypatch.setenv("TCIG_WEIGHTS", str(folder))
    for variable in ("HF_ENDPOINT", "TCIG_WEIGHTS_MIRROR", "TCIG_COCO_MIRROR"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return folder


@pytest.fixture
def threads():
    """Sets torch's threads for the test."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def open_server(monkeypatch):
    """Opens local servers."""
    running = []
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "CHUNK", 1024)

    def build():
        server = Server()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        return server

    yield build
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub(open_server, monkeypatch):
    """An empty hub in place of the real one; its large files lie on another server."""
    found = Hub(open_server(), open_server())
    monkeypatch.setenv("HF_ENDPOINT", found.server.address)
    monkeypatch.setattr(constants, "ENDPOINT", found.server.address)
    return found


@pytest.fixture
def mirror(open_server, monkeypatch):
    """An empty server in place of the addresses of the catalogue."""
    server = open_server()
    monkeypatch.setenv("TCIG_WEIGHTS_MIRROR", f"{server.address}/")
    return server


_BLOCKS = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
}
_BLOCKS |= {"cross_attention_dim": 32, "attention_head_dim": 8, "norm_num_groups": 8}
_TEXT = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
_TEXT |= {"num_attention_heads": 2, "projection_dim": 32, "hidden_act": "quick_gelu"}
_VAE_BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 2}
_VAE_BLOCKS |= {"up_block_types": ("UpDecoderBlock2D",) * 2}
_TAMING = {"double_z": False, "z_channels": 8, "resolution": 256, "in_channels": 3, "out_ch": 3}
_TAMING |= {
    "ch": 32,
    "ch_mult": [1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
NARROW = {
    "UNet2DConditionModel": _BLOCKS
    | {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "sample_size": 8},
    "AutoencoderKL": _VAE_BLOCKS | {"block_out_channels": (32, 32), "layers_per_block": 1},
    "CLIPTextModel": _TEXT,
    "CLIPTextModelWithProjection": _TEXT,
    "ControlNetModel": _BLOCKS | {"conditioning_embedding_out_channels": (8, 16)},
    "T2IAdapter": {"channels": [32, 64], "downscale_factor": 2},
    "VQGAN.taming": {"embed_dim": 4, "ddconfig": _TAMING},
    "FluxTransformer2DModel": {
        "num_layers": 1,
        "num_single_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "axes_dims_rope": (4, 4, 8),
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
    },
    "T5EncoderModel": {
        "vocab_size": 64,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 2,
    },
    "SD3Transformer2DModel": {
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "sample_size": 8,
        "pos_embed_max_size": 64,
        "joint_attention_dim": 64,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 64,
    },
}
"""Changes of the configurations in `tcig/models/configs`, by class."""


@pytest.fixture
def narrow(monkeypatch):
    """Random weights of the catalogue's models with little width."""
    from tcig.models import random_weights

    architectures = deepcopy(random_weights.architectures())
    for architecture in architectures.values():
        for network in architecture["networks"].values():
            kind = network["class"].partition(":")[2]
            network["config"] |= NARROW.get(kind, {})
    monkeypatch.setattr(random_weights, "architectures", lambda: architectures)


@pytest.fixture(scope="session")
def open_rows(tmp_path_factory):
    """For each row that the profile `smoke` leaves open, random weights that fit its models."""
    from random_networks import write_controlnet, write_gligen

    folder = tmp_path_factory.mktemp("random")
    control = str(write_controlnet(folder / "controlnet"))
    return {
        "controlnet": {"control": control},
        "gligen": {"weights": str(write_gligen(folder / "gligen"))},
    }


@pytest.fixture(scope="session")
def box_layout():
    """A layout of boxes, label=(top, bottom, left, right)."""

    def build(side, caption="a cat and a bus on a green field", identity="1", image="", **boxes):
        regions = []
        for number, (label, (top, bottom, left, right)) in enumerate(boxes.items()):
            mask = np.zeros((side, side), bool)
            mask[top:bottom, left:right] = True
            regions.append(Region(annotation=number, label=label, mask=encode(mask)))
        return Layout(id=identity, image=image, side=side, caption=caption, regions=tuple(regions))

    return build


@pytest.fixture(scope="session")
def refused(tmp_path_factory):
    """`with refused(path, "b"):` an InputError of one sentence that names the path and says b."""

    folder = re.compile(rf"{tmp_path_factory.getbasetemp()}/[^/\s]*")

    @contextmanager
    def check(*parts):
        with pytest.raises(InputError) as caught:
            yield caught
        text = str(caught.value)
        assert "\n" not in text
        assert "  " not in text
        assert len(text) < 600, f"{len(text)} characters: {text[:200]}..."
        assert text.endswith((".", "?"))
        assert not re.search(r"[.] [A-Z]|[.];", text), f"more than one sentence: {text}"
        for part in parts:
            said = text if isinstance(part, Path) else folder.sub("", text)
            assert str(part) in said, text

    return check


@pytest.fixture(scope="session")
def sample():
    """The folder of 50 real images of COCO val2017."""
    if not (folder := os.environ.get("TCIG_COCO_SAMPLE")):
        pytest.skip("TCIG_COCO_SAMPLE names no folder of real COCO images, which are not shipped")
    return Path(folder)
