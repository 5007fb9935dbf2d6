"""CLIP against open_clip's own calls, Inception against torch-fidelity's own loader."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch_fidelity import FeatureExtractorInceptionV3

from tcig.data.files import InputError
from tcig.models.clip import INCEPTION_FILE, fuse_clip, load_clip, load_inception
from tcig.models.fetch import adopt, place_of
from tcig.models.mini import WEIGHTS
from tcig.models.random_weights import write_random_weights
from tcig.models.sources import catalogue

INCEPTION = "inception_2015_12_05"


def pixels(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["clip", "clip-score"])
def folder(request):
    return WEIGHTS / request.param


def test_a_shipped_folder_loads_with_its_weights_and_its_normalisation(folder):
    clip = load_clip(folder)
    assert clip.size == 64
    state = clip.module.state_dict()
    for key, value in load_file(folder / "open_clip_model.safetensors").items():
        assert torch.equal(state[key], value.to(state[key].dtype))
    settings = json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]
    mean, std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
    images = pixels(3, 3, 64, 64)
    expected = clip.module.encode_image((images - mean) / std, normalize=True)
    vectors = clip.encode_images(images.requires_grad_())
    texts = clip.encode_texts(["a cat", "a dog and a bus in the snow"])
    assert torch.allclose(vectors, expected, atol=1e-6)
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5)
    (vectors @ texts.T).sum().backward()
    assert images.grad.abs().mean() > 0
    assert not any(p.requires_grad for p in clip.module.parameters())


def test_a_clip_that_cannot_be_loaded_is_refused(tmp_path, folder, refused):
    with refused("open_clip_config.json is missing"):
        load_clip(tmp_path)
    for name in ("open_clip_config.json", "merges.txt.gz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with refused("open_clip_model.safetensors is missing"):
        load_clip(tmp_path)
    save_file({"odd": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    for content in (None, "{}"):
        if content:
            (tmp_path / "open_clip_config.json").write_text(content)
        with refused("cannot be loaded as a CLIP"):
            load_clip(tmp_path)


def test_a_text_that_is_too_long_is_cut_with_a_warning(folder):
    clip = load_clip(folder)
    words = ["cat"] * 38 + ["dog", "bus"]
    with pytest.warns(UserWarning, match=r"CLIP takes 38 tokens: 'dog bus' was cut off 'cat cat"):
        cut = clip.encode_texts([" ".join(words)])
    assert torch.equal(cut, clip.encode_texts([" ".join(words[:38])]))


def test_fusing_changes_nothing_but_rounding(folder):
    clip = load_clip(folder)
    fast = fuse_clip(clip)
    images = pixels(2, 3, 64, 64)
    assert fast.encode_images(images).allclose(clip.encode_images(images), atol=1e-5)
    assert torch.equal(fast.encode_texts(["a cat"]), clip.encode_texts(["a cat"]))
    convolutional = any(isinstance(m, nn.BatchNorm2d) for m in clip.module.visual.modules())
    assert (fast is clip) == (not convolutional)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.module.visual.modules())


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """A folder with random weights."""
    folder = tmp_path_factory.mktemp("inception")
    write_random_weights(INCEPTION, folder)
    return folder


@pytest.mark.parametrize("counters", [True, False])
def test_features_are_those_of_torch_fidelitys_own_loader(inception, tmp_path, counters):
    state = torch.load(inception / INCEPTION_FILE, weights_only=True)
    if not counters:  # as torch-fidelity's conversion has it
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        assert len(state) == 566 - 94
    torch.save(state, tmp_path / INCEPTION_FILE)
    network, identity = load_inception(tmp_path)
    theirs = FeatureExtractorInceptionV3(
        "theirs", ["2048"], feature_extractor_weights_path=str(tmp_path / INCEPTION_FILE)
    )
    images = (pixels(2, 3, 64, 64) * 255).byte()
    (found,), (expected,) = network(images), theirs(images)
    assert found.shape == (2, 2048)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not network.training
    assert not any(each.requires_grad for each in network.parameters())
    assert len(identity) == 64


def test_the_catalogue_has_the_file_that_torch_fidelity_takes(inception, weights_store):
    entry = catalogue()[INCEPTION]
    assert list(entry.urls) == list(entry.sha256) == [INCEPTION_FILE]
    assert INCEPTION_FILE.endswith(f"-{entry.sha256[INCEPTION_FILE]}.pth")
    place_of(INCEPTION).mkdir(parents=True)
    (place_of(INCEPTION) / INCEPTION_FILE).symlink_to(inception / INCEPTION_FILE)
    adopt(INCEPTION, "random")
    assert load_inception(INCEPTION)[1].startswith(f"{INCEPTION}@- ")


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    trap = Trap(tmp_path / "sprung")
    torch.save({"fc.weight": trap}, tmp_path / INCEPTION_FILE)
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_inception(tmp_path)
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap)).close()
    assert trap.path.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read as weights"),
        (b"", "cannot be read as weights"),
        ({"fc.weight": torch.zeros(1)}, "does not fit the network"),
        ({}, "does not fit the network"),
        ([1], "does not fit the network"),
    ],
)
def test_another_file_is_refused(tmp_path, content, said, refused):
    if isinstance(content, bytes):
        (tmp_path / INCEPTION_FILE).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / INCEPTION_FILE)
    with refused(tmp_path / INCEPTION_FILE, said):
        load_inception(tmp_path)
