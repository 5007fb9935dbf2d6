"""Judges: what they read, that a batch changes nothing, and how weights are loaded or refused."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models.segmentation import DeepLabV3_ResNet101_Weights as Entries
from torchvision.models.segmentation import deeplabv3_resnet101

from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.files import sha256
from tcig.data.filters import Filter
from tcig.data.manifest import build_layouts
from tcig.data.voc import COLOURS
from tcig.eval.iou import Samples, confusion, reduce
from tcig.eval.judges import JUDGES, ColourJudge, SemanticJudge, load_judge
from tcig.models.fetch import FileRecord, LockEntry, write_lock
from tcig.models.mini import WEIGHTS
from tcig.models.segmentation import Network


def noise(seed, size=96):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def agreement(one, other):
    return np.mean([np.mean(a.labels == b.labels) for a, b in zip(one, other, strict=True)])


def test_colours_are_read_exactly():
    labels = np.arange(21 * 4).reshape(12, 7) % 21
    image = Image.fromarray(np.array(COLOURS, np.uint8)[labels])
    (found,) = load_judge("colours")[1].segment([image])
    np.testing.assert_array_equal(found.labels, labels)
    assert found.labels.dtype == np.uint8
    assert found.instances is None
    others = [Image.new("RGB", (5, 4), c) for c in ((127, 127, 127), (129, 0, 0), (0, 0, 1))]
    assert not any(each.labels.any() for each in ColourJudge().segment(others))


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("colors", "colours"),
        ("mask2fomer", "mask2former"),
        ("deeplabv3-resnet101=x.pth", "deeplabv3_resnet101"),
        ("Guide", "guide"),
    ],
)
def test_a_misspelt_judge_is_refused_with_the_nearest(refused, spec, near):
    with refused(spec.partition("=")[0], f"did you mean {near}?", *JUDGES):
        load_judge(spec)


@pytest.mark.parametrize("name", ["miniature", "guide", "colours"])
def test_weights_for_a_judge_that_takes_none_are_refused(refused, tmp_path, name):
    """Else the shipped weights would judge under the name of the given ones."""
    with refused(name):
        load_judge(f"{name}={tmp_path / 'mine.safetensors'}")


class Reddest(nn.Module):
    """Class 20 where red prevails, else 3; keeps what it was shown."""

    def forward(self, images):
        self.seen = images
        logits = torch.zeros(len(images), 21, *images.shape[2:])
        logits[:, 20], logits[:, 3] = images[:, 0], images[:, 1]
        return logits


def test_a_semantic_judge_sees_its_own_size_and_gives_labels():
    judge = SemanticJudge(Network(Reddest(), 32, "mine"))
    assert judge.identity == "mine"
    image = noise(0, 64)
    image.paste((255, 0, 0), (0, 0, 64, 32))
    image.paste((0, 255, 0), (0, 32, 64, 64))
    found = judge.segment([image, noise(1, 64)])
    assert [each.labels.shape for each in found] == [(32, 32)] * 2
    assert found[0].labels.dtype == np.uint8
    assert found[0].instances is None
    assert (found[0].labels[:15] == 20).all()
    assert (found[0].labels[17:] == 3).all()
    seen = judge.module.seen.cpu()
    small = np.asarray(noise(1, 64).resize((32, 32), Image.Resampling.BILINEAR))
    expected = torch.from_numpy(small.copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(seen[1], expected, atol=1e-7, rtol=0)


@pytest.fixture(scope="module")
def photographs():
    """Eight embedded photographs and their layouts."""
    _, layouts = build_layouts(EMOJI, Filter())
    return [(Image.open(EMOJI / each.image).convert("RGB"), each) for each in layouts[:8]]


@pytest.mark.parametrize(("judge", "file"), [("miniature", "judge"), ("guide", "guide")])
def test_shipped_weights(judge, file, photographs):
    name, network = load_judge(judge)
    assert name == judge
    assert network.identity == sha256(WEIGHTS / f"{file}.safetensors")
    images = [image for image, _ in photographs]
    together = network.segment(images)
    assert all(found.labels.shape == (128, 128) for found in together)
    alone = [network.segment([image])[0] for image in images]
    assert agreement(alone, together) >= 0.999
    counts = [
        confusion(layout.class_map(128), found.labels)
        for found, (_, layout) in zip(together, photographs, strict=True)
    ]
    samples = Samples.of(counts, [layout.classes for _, layout in photographs])
    assert reduce(samples, "iou_image").mean > 0.5


@pytest.fixture(scope="module")
def deeplab(tmp_path_factory):
    """torchvision's network with random weights, its state as .pth and .safetensors."""
    torch.manual_seed(0)
    network = deeplabv3_resnet101(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ).eval()
    folder = tmp_path_factory.mktemp("deeplab")
    files = {suffix: folder / f"weights.{suffix}" for suffix in ("pth", "safetensors")}
    torch.save(network.state_dict(), files["pth"])
    save_file(network.state_dict(), files["safetensors"])
    yield network, files
    shutil.rmtree(folder)


class Thin(nn.Module):
    """Stands in for the network, which takes seconds at 520x520: class 7 where red is positive."""

    def forward(self, images):
        logits = torch.zeros(len(images), 21, *images.shape[2:])
        logits[:, 7] = images[:, 0]
        return {"out": logits}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_deeplab_from_a_file_is_torchvisions_network(deeplab, suffix):
    network, files = deeplab
    name, judge = load_judge(f"deeplabv3_resnet101={files[suffix]}")
    assert name == "deeplabv3_resnet101"
    assert judge.identity == sha256(files[suffix])
    assert judge.side == 520
    module = judge.module
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    image = noise(2, 64)
    preset = Entries.COCO_WITH_VOC_LABELS_V1.transforms(resize_size=64)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = network(preset(image)[None])["out"]
        found = module(pixels.to(judge.device)).cpu()
    assert found.shape == (1, 21, 64, 64)
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    module.network = Thin()
    labels = judge.segment([image])[0].labels
    assert labels.shape == (520, 520)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 7}  # noise lies on both sides of the preset's mean


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


def harmful(path):
    torch.save({"weight": Harmful(path.with_name("executed"))}, path)


def corrupt(content):
    return lambda path: path.write_bytes(content)


UNUSABLE = {
    "harmful": ("w.pth", harmful),
    "missing": ("w.pth", lambda path: None),
    "text": ("w.pth", corrupt(b"<html>404</html>")),
    "no safetensors": ("w.safetensors", corrupt(bytes(range(256)))),
    "other keys": ("w.pth", lambda path: torch.save({"a": torch.ones(2)}, path)),
    "a list": ("w.pth", lambda path: torch.save([torch.ones(2)], path)),
    "keys that are no text": ("w.pth", lambda path: torch.save({1: torch.ones(2)}, path)),
}


@pytest.mark.parametrize(("name", "write"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_weights_are_refused(tmp_path, refused, name, write):
    write(tmp_path / name)
    with torch.device("meta"), refused(tmp_path / name):  # the network's own weights: no matter
        load_judge(f"deeplabv3_resnet101={tmp_path / name}")
    assert not (tmp_path / "executed").exists()


def test_fetched_weights_are_used_and_named(deeplab, weights_store):
    _, files = deeplab
    file = Entries.COCO_WITH_VOC_LABELS_V1.url.rsplit("/", 1)[1]
    folder = weights_store / "deeplabv3_resnet101"
    folder.mkdir(parents=True)
    shutil.copy(files["pth"], folder / file)
    stored = FileRecord(size=files["pth"].stat().st_size, sha256=sha256(files["pth"]))
    entry = LockEntry(source="here", revision=None, fetched="2026-01-01", files={file: stored})
    write_lock("deeplabv3_resnet101", entry)
    assert load_judge("deeplabv3_resnet101")[1].identity.startswith("deeplabv3_resnet101@- ")
