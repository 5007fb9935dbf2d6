import argparse
import json
import sys
from types import ModuleType

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import load_file, save_file
from taming.modules.vqvae.quantize import VectorQuantizer

from tcig.data.files import InputError
from tcig.models.fetch import fetch, read_lock
from tcig.models.vqgan import CALLBACK, VQGAN, load_vqgan

SETTINGS = {
    "embed_dim": 4,
    "n_embed": 32,
    "ddconfig": {
        "double_z": False,
        "z_channels": 8,
        "resolution": 16,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [8],
        "dropout": 0.0,
    },
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(4)
    return VQGAN.taming(**SETTINGS).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def write(folder, state, settings=SETTINGS, lightning=False):
    target = {"target": "taming.models.vqgan.VQModel", "base_learning_rate": 4.5e-6}
    model = target | {"params": settings | {"lossconfig": {"target": "none"}}}
    (folder / "model.yaml").write_text(yaml.safe_dump({"model": model}))
    if lightning:
        torch.save({"state_dict": state, "global_step": 7}, folder / "last.ckpt")
    else:
        save_file(
            {key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors"
        )
    return folder


@pytest.mark.parametrize("lightning", [False, True])
def test_a_folder_of_tamings_layout_loads_as_it_was(tmp_path, model, images, lightning):
    state = model.state_dict() | {"loss.discriminator.main.0.weight": torch.ones(2)}
    loaded = load_vqgan(write(tmp_path, state, lightning=lightning))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))


def test_quantisation_is_tamings_with_a_straight_gradient(model, images):
    reference = VectorQuantizer(32, 4, 0.25)
    reference.load_state_dict(model.quantize.state_dict())
    latents = model.encode(images).detach().requires_grad_()
    expected, _, (_, _, indices) = reference(latents)
    quantised = model.quantise(latents)
    assert torch.allclose(quantised, expected, atol=1e-6)
    assert torch.equal(model.codes(latents).flatten(), indices.flatten())
    gradient = torch.randn(quantised.shape, generator=torch.Generator().manual_seed(2))
    quantised.backward(gradient)
    assert torch.equal(latents.grad, gradient)


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.yaml", b"model: {params: {n_embed: 3}}", "lacks model.params"),
        ("model.yaml", b"model: [", "lacks model.params"),
        ("model.yaml", None, "model.yaml cannot be read"),
        ("model.safetensors", b"not weights", "cannot be read as weights"),
        ("model.safetensors", None, "model.safetensors or last.ckpt"),
        ("settings", {"n_embed": 64}, "quantize.embedding.weight"),
        ("state", without("decoder.conv_in.weight"), "decoder.conv_in.weight"),
        ("last.ckpt", [1, 2], "not a checkpoint of Lightning's"),
        ("last.ckpt", {"quantize.embed.weight": torch.zeros(32, 4)}, "does not fit the network"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, model, refused, file, content, said):
    state = model.state_dict()
    settings = SETTINGS | content if file == "settings" else SETTINGS
    write(tmp_path, content(state) if file == "state" else state, settings)
    if file == "last.ckpt":
        (tmp_path / "model.safetensors").unlink()
        torch.save({"state_dict": content}, tmp_path / file)
    elif content is None:
        (tmp_path / file).unlink()
    elif isinstance(content, bytes):
        (tmp_path / file).write_bytes(content)
    with refused(said):
        load_vqgan(tmp_path)


def test_a_checkpoint_keyed_by_lightnings_callback_loads_without_lightning(
    tmp_path, model, images, monkeypatch
):
    """As Lightning 1.0 wrote them: `callbacks` maps the class itself to its state."""
    home, _, name = CALLBACK.rpartition(".")
    owner = ModuleType(home)
    keyed = type(name, (), {"__module__": home})
    setattr(owner, name, keyed)
    write(tmp_path, model.state_dict())
    (tmp_path / "model.safetensors").unlink()
    with monkeypatch.context() as patch:
        for part in ("pytorch_lightning", "pytorch_lightning.callbacks", home):
            patch.setitem(sys.modules, part, owner)
        state = {"best_model_score": torch.tensor(0.5), "best_model_path": "last.ckpt"}
        contents = {"state_dict": model.state_dict(), "callbacks": {keyed: state}}
        torch.save(contents, tmp_path / "last.ckpt")
    assert home not in sys.modules
    with torch.inference_mode():
        assert torch.equal(load_vqgan(tmp_path)(images), model(images))


@pytest.fixture
def checkpoint(tmp_path, model):
    """Writes a checkpoint as Lightning does, with other parts; its folder."""

    def save(state, **parts):
        write(tmp_path, model.state_dict())
        (tmp_path / "model.safetensors").unlink()
        torch.save({"state_dict": state} | parts, tmp_path / "last.ckpt")
        return tmp_path

    return save


def test_a_checkpoint_with_a_namespace_or_of_dataparallel_loads(checkpoint, model, images):
    state = model.state_dict()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    namespace = argparse.Namespace(lr=1e-4, name="x")
    for folder in (checkpoint(state, hyper_parameters=namespace), checkpoint(wrapped)):
        with torch.inference_mode():
            assert torch.equal(load_vqgan(folder)(images), model(images))


DIFFUSERS = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    "layers_per_block": 1,
    "latent_channels": 8,
    "num_vq_embeddings": 32,
    "vq_embed_dim": 4,
}


@pytest.fixture(scope="module")
def vqmodel():
    torch.manual_seed(6)
    return VQModel(**DIFFUSERS).eval()


@pytest.mark.parametrize("safe", [True, False])
def test_a_vqmodel_reconstructs_as_diffusers_own(tmp_path, vqmodel, images, safe):
    vqmodel.save_pretrained(tmp_path, safe_serialization=safe)
    loaded = load_vqgan(tmp_path)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert loaded.factor == 2
    with torch.inference_mode():
        assert loaded(images).allclose(vqmodel(images).sample, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("tensor", "differ in decoder.conv_in.weight"),
        ("settings", "1024"),
        ("weights", "cannot be loaded as a VQModel"),
        ("class", "cannot be loaded as a VQModel"),
    ],
)
def test_a_vqmodel_that_does_not_fit_is_refused(tmp_path, vqmodel, refused, part, said):
    vqmodel.save_pretrained(tmp_path)
    path, config = tmp_path / "diffusion_pytorch_model.safetensors", tmp_path / "config.json"
    if part == "tensor":
        save_file(without("decoder.conv_in.weight")(load_file(path)), path)
    elif part == "settings":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"num_vq_embeddings": 1024}))
    elif part == "weights":
        path.write_bytes(b"not weights")
    else:
        AutoencoderKL(block_out_channels=(32,)).save_config(tmp_path)
    with refused(said):
        load_vqgan(tmp_path)


class Evil:
    """Prints where it is unpickled."""

    def __reduce__(self):
        return (print, ("run",))


def test_files_that_hold_code_are_refused(tmp_path, checkpoint, model, vqmodel, capsys, refused):
    with refused("cannot be read as weights"):
        load_vqgan(checkpoint(model.state_dict(), callbacks=Evil()))
    (tmp_path / "model.yaml").unlink()
    vqmodel.save_config(tmp_path)
    torch.save({"weight": Evil()}, tmp_path / "diffusion_pytorch_model.bin")
    with refused("cannot be loaded as a VQModel"):
        load_vqgan(tmp_path)
    assert "run" not in capsys.readouterr().out


LARGE_CODEBOOK = SETTINGS | {"n_embed": 16384}
NAME = "vqgan_imagenet_f16_16384"


@pytest.fixture
def published(tmp_path, images):
    """Taming's two files with a Lightning checkpoint of 16384 codes and a loss."""
    torch.manual_seed(5)
    model = VQGAN.taming(**LARGE_CODEBOOK).eval()
    folder = tmp_path / "published"
    folder.mkdir()
    state = model.state_dict() | {"loss.discriminator.main.0.weight": torch.ones(2)}
    write(folder, state, LARGE_CODEBOOK, lightning=True)
    return model, folder


def test_tamings_checkpoint_is_fetched_once_and_kept_as_safetensors(published, mirror, images):
    model, folder = published
    for file in ("model.yaml", "last.ckpt"):
        mirror.files[f"/{NAME}/{file}"] = (folder / file).read_bytes()
    found = fetch(NAME)
    assert {p.name for p in found.iterdir()} == {"model.yaml", "model.safetensors", ".lock"}
    with torch.inference_mode():
        assert torch.equal(load_vqgan(found)(images), model(images))
    locked = read_lock()[NAME]
    assert set(locked.files) == {"model.yaml", "model.safetensors"}
    assert set(locked.converted) == {"last.ckpt"}
    (found / "model.safetensors").write_bytes(b"cut")
    fetch(NAME)
    assert read_lock()[NAME].files == locked.files
    assert len(mirror.asked(f"/{NAME}/last.ckpt")) == 2
    (found / "model.safetensors").unlink()
    mirror.files[f"/{NAME}/last.ckpt"] += b"!"
    with pytest.raises(InputError, match=r"last\.ckpt from .* is not what was fetched"):
        fetch(NAME)


def test_a_pickled_vqmodel_of_the_hub_is_kept_as_safetensors(hub, tmp_path, images):
    torch.manual_seed(6)
    model = VQModel(**DIFFUSERS | {"num_vq_embeddings": 16384}).eval()
    model.save_pretrained(tmp_path / "saved", safe_serialization=False)
    source = "xvjiarui/taming-vq-f16-n16384"
    hub.add(source, {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()})
    found = fetch(NAME, source)
    names = {p.name for p in found.iterdir()}
    assert names == {"config.json", "diffusion_pytorch_model.safetensors", ".lock"}
    with torch.inference_mode():
        assert load_vqgan(found)(images).allclose(model(images).sample, atol=1e-5)


def test_a_vqgan_of_another_codebook_is_refused(tmp_path, model):
    write(tmp_path, model.state_dict(), lightning=True)
    with pytest.raises(InputError, match=rf"has a codebook of 32, {NAME} has 16384: give another"):
        fetch(NAME, str(tmp_path))
    assert read_lock() == {}
