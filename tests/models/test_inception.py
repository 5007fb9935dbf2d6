"""Inception: torch-fidelity's own network, filled without unpickling."""

import pickle

import pytest
import torch
from torch_fidelity import FeatureExtractorInceptionV3

from tcig.data.files import InputError
from tcig.models.catalogue import catalogue
from tcig.models.fetch import adopt, place_of
from tcig.models.inception import FILE, load_inception
from tcig.models.random_weights import write_random_weights

NAME = "inception_2015_12_05"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inception")
    write_random_weights(NAME, folder)
    return folder


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)


def test_the_catalogue_has_the_file_that_torch_fidelity_takes():
    entry = catalogue()[NAME]
    assert list(entry.urls) == list(entry.sha256) == [FILE]
    assert FILE.endswith(f"-{entry.sha256[FILE]}.pth")


@pytest.mark.parametrize("counters", [True, False])
def test_features_are_those_of_torch_fidelitys_own_loader(stand_in, images, tmp_path, counters):
    state = torch.load(stand_in / FILE, weights_only=True)
    if not counters:  # as torch-fidelity's conversion has it
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        assert len(state) == 566 - 94
    torch.save(state, tmp_path / FILE)
    network, identity = load_inception(tmp_path)
    theirs = FeatureExtractorInceptionV3(
        "theirs", ["2048"], feature_extractor_weights_path=str(tmp_path / FILE)
    )
    (found,), (expected,) = network(images), theirs(images)
    assert found.shape == (2, 2048)
    assert not torch.equal(found[0], found[1])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not network.training
    assert not any(each.requires_grad for each in network.parameters())
    assert len(identity) == 64


def test_a_fetched_one_names_its_source(stand_in, weights_store):
    place_of(NAME).mkdir(parents=True)
    (place_of(NAME) / FILE).write_bytes((stand_in / FILE).read_bytes())
    adopt(NAME, "random")
    assert load_inception(NAME)[1].startswith(f"{NAME}@- ")


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    trap = Trap(tmp_path / "sprung")
    torch.save({"fc.weight": trap}, tmp_path / FILE)
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
        ({"fc.weight": torch.zeros(1)}, "does not fit the network: "),
        ([1], "does not fit the network: "),
        ("OTHER SHAPE", "does not fit the network: "),
    ],
)
def test_another_file_is_refused(stand_in, tmp_path, content, said, refused):
    if content == "OTHER SHAPE":
        content = torch.load(stand_in / FILE, weights_only=True)
        content["fc.weight"] = torch.zeros(1000, 2048)
    if isinstance(content, bytes):
        (tmp_path / FILE).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / FILE)
    with refused(tmp_path / FILE, said):
        load_inception(tmp_path)
