import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tcig.data.files import InputError
from tcig.models.clip import fuse_clip, load_clip
from tcig.models.mini import WEIGHTS


@pytest.fixture(scope="module", params=["clip", "clip-score"])
def folder(request):
    return WEIGHTS / request.param


def test_a_shipped_folder_loads_through_open_clip(folder):
    clip = load_clip(folder)
    assert clip.size == 64
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    vectors = clip.encode_images(images.requires_grad_())
    texts = clip.encode_texts(["a cat", "a dog and a bus in the snow"])
    assert vectors.shape == (3, 128)
    assert texts.shape == (2, 128)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5)
    (vectors @ texts.T).sum().backward()
    assert images.grad.abs().mean() > 0
    assert not any(p.requires_grad for p in clip.module.parameters())


def test_the_weights_are_those_of_the_file(folder):
    clip = load_clip(folder)
    stored = load_file(folder / "open_clip_model.safetensors")
    state = clip.module.state_dict()
    assert set(stored) <= set(state)
    for key, value in stored.items():
        assert torch.equal(state[key], value.to(state[key].dtype))


def test_pixels_are_scaled_as_the_configuration_says(folder):
    clip = load_clip(folder)
    settings = json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]
    mean, std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = clip.module.encode_image((images - mean) / std, normalize=True)
    assert torch.allclose(clip.encode_images(images), expected, atol=1e-6)


def test_faults_are_named(tmp_path, folder):
    with pytest.raises(InputError, match=r"open_clip_config\.json is missing"):
        load_clip(tmp_path)
    for name in ("open_clip_config.json", "merges.txt.gz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors is missing"):
        load_clip(tmp_path)
    save_file({"odd": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(InputError, match="cannot be loaded as a CLIP"):
        load_clip(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded as a CLIP"):
        load_clip(tmp_path)


def test_a_text_that_is_too_long_is_cut_and_said(folder):
    clip = load_clip(folder)
    words = ["cat"] * 38 + ["dog", "bus"]
    with pytest.warns(UserWarning, match=r"CLIP takes 38 tokens: 'dog bus' was cut off 'cat cat"):
        cut = clip.encode_texts([" ".join(words)])
    assert torch.equal(cut, clip.encode_texts([" ".join(words[:38])]))


def test_folding_changes_nothing_but_rounding(folder):
    clip = load_clip(folder)
    fast = fuse_clip(clip)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert fast.encode_images(images).allclose(clip.encode_images(images), atol=1e-5)
    assert torch.equal(fast.encode_texts(["a cat"]), clip.encode_texts(["a cat"]))
    convolutional = any(isinstance(m, nn.BatchNorm2d) for m in clip.module.visual.modules())
    assert (fast is clip) == (not convolutional)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.module.visual.modules())
