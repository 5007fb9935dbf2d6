"""Mask2Former as a judge: a tiny network of random weights, and hand-made outputs."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_gpu import FakeGpu
from PIL import Image
from safetensors.torch import load_file, save_file

from tcig.data.files import InputError, sha256
from tcig.data.masks import decode
from tcig.data.voc import BY_LABEL, LABELS
from tcig.eval.judges import load_judge
from tcig.eval.mask2former import Mask2FormerJudge

WORDS = ("Person", "banner", *(w for w in LABELS[1:] if w != "person"), "sky-other-merged")
VOC_WORDS = {
    "airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa",
    "tv": "tvmonitor", "dining table": "diningtable", "potted plant": "pottedplant",
}  # fmt: skip
PANOPTIC, INSTANCE = MODES = ("mask2former", "mask2former-instance")


def noise(seed, size=96):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def agreement(one, other):
    return np.mean([np.mean(a.labels == b.labels) for a, b in zip(one, other, strict=True)])


@pytest.fixture(scope="module")
def former(tmp_path_factory):
    """A tiny Mask2Former of random weights, sure of its classes."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=32, dim_feedforward=32, encoder_layers=1, decoder_layers=2,
        num_attention_heads=4, num_queries=12, id2label=dict(enumerate(WORDS)),
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config)
    model.class_predictor.weight.data *= 1000
    folder = tmp_path_factory.mktemp("former")
    model.save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


HUB = {
    "_max_size": 1333, "do_normalize": True, "do_reduce_labels": False, "do_rescale": True,
    "do_resize": True, "ignore_index": 255, "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "Mask2FormerImageProcessor", "image_std": [0.229, 0.224, 0.225],
    "num_labels": 133, "resample": 2, "rescale_factor": 0.00392156862745098,
    "size": {"height": 384, "width": 384}, "size_divisor": 32,
}  # fmt: skip
"""In the hub's form. `size` is the published one (blob a6376a5 of
facebook/mask2former-swin-large-coco-instance); the other values are transformers' usual ones."""


@pytest.fixture(scope="module")
def formers(former):
    return {mode: load_judge(f"{mode}={former}")[1] for mode in MODES}


def check_consistent(found, judge):
    """The label map is the instances painted from the least to the most confident."""
    scores = [instance.score for instance in found.instances]
    assert scores == sorted(scores, reverse=True)
    assert all(judge.THRESHOLD <= score <= 1 for score in scores)
    labels = np.zeros_like(found.labels)
    for instance in reversed(found.instances):
        mask = decode(instance.mask)
        assert mask.any()
        labels[mask] = BY_LABEL[instance.label].index
    np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threshold", [0.8, 0.0])
def test_mask2former_segments_images(formers, former, mode, threshold, monkeypatch):
    judge = formers[mode]
    assert judge.identity.startswith(sha256(former / "model.safetensors"))
    assert "0.8" in judge.identity
    monkeypatch.setattr(judge, "THRESHOLD", threshold, raising=False)
    monkeypatch.setattr(judge, "OVERLAP", threshold, raising=False)
    images = [noise(3), noise(4)]
    together = judge.segment(images)
    for found in together:
        assert found.labels.shape == (96, 96)
        assert found.labels.dtype == np.uint8
        check_consistent(found, judge)
    if threshold == 0:
        assert all(found.instances for found in together)
        json.dumps([vars(instance) for instance in together[0].instances])
    alone = [judge.segment([image])[0] for image in images]
    assert agreement(alone, together) >= 0.999


@pytest.mark.parametrize("mode", MODES)
def test_a_confident_object_takes_its_own_pixels_only(formers, mode, monkeypatch):
    """Two sure objects and one below the threshold on a background that no query claims."""
    cat, bus, dog = (WORDS.index(word) for word in ("cat", "bus", "dog"))
    classes = torch.full((1, 4, len(WORDS) + 1), -12.0)
    classes[0, 0, cat] = classes[0, 1, bus] = classes[0, 2, dog] = classes[0, 3, -1] = 12
    classes[0, 2, -1] = 11.15  # the dog's probability is 0.7
    masks = torch.full((1, 4, 96, 96), -12.0)
    masks[0, 0, :48, :48] = masks[0, 1, 60:, 60:] = masks[0, 2, :40, 60:] = 12
    outputs = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    judge = formers[mode]
    monkeypatch.setattr(judge, "model", lambda **_: outputs)
    (found,) = judge.segment([noise(5)])
    expected = np.zeros((96, 96), np.uint8)
    expected[:48, :48], expected[60:, 60:] = LABELS.index("cat"), LABELS.index("bus")
    assert np.mean(found.labels == expected) > 0.98
    assert sorted(instance.label for instance in found.instances) == ["bus", "cat"]


def segment(number, word, score):
    return {"id": number, "label_id": WORDS.index(word), "was_fused": False, "score": score}


def test_a_panoptic_map_becomes_classes(formers):
    maps = torch.tensor([[1, 1, -1, 3], [2, 2, 0, 3], [2, 4, 0, 3]], dtype=torch.int32)
    info = [
        segment(1, "cat", 0.91), segment(2, "Person", 0.8765432),
        segment(3, "sky-other-merged", 0.99), segment(4, "cat", 0.95), segment(5, "dog", 0.97),
    ]  # fmt: skip
    found = formers[PANOPTIC]._classes({"segmentation": maps, "segments_info": info}, (3, 4))
    np.testing.assert_array_equal(
        found.labels, np.array([[8, 8, 0, 0], [15, 15, 0, 0], [15, 8, 0, 0]], np.uint8)
    )
    assert [(i.label, i.score) for i in found.instances] == [
        ("cat", 0.95), ("cat", 0.91), ("person", 0.876543)
    ]  # fmt: skip
    for instance, number in zip(found.instances, (4, 1, 2), strict=True):
        assert instance.mask["size"] == [3, 4]
        np.testing.assert_array_equal(decode(instance.mask), maps.numpy() == number)


def test_overlapping_instances_become_classes(formers):
    maps = torch.zeros(4, 3, 4)
    maps[0, :2], maps[1, 1:], maps[2], maps[3, :, 3] = 1, 1, 1, 1
    info = [
        segment(0, "tv", 0.95), segment(1, "couch", 0.85), segment(2, "banner", 0.99),
        segment(3, "tv", 0.81),
    ]  # fmt: skip
    found = formers[INSTANCE]._classes({"segmentation": maps, "segments_info": info}, (3, 4))
    expected = np.array([[20] * 4, [20] * 4, [18] * 4], np.uint8)
    np.testing.assert_array_equal(found.labels, expected)
    assert [(i.label, i.score) for i in found.instances] == [
        ("tv", 0.95), ("couch", 0.85), ("tv", 0.81)
    ]  # fmt: skip
    for instance, number in zip(found.instances, (0, 1, 3), strict=True):
        np.testing.assert_array_equal(decode(instance.mask), maps[number].numpy() > 0)


def renamed(former, folder, names):
    shutil.copytree(former, folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {k: names.get(v, v) for k, v in config["id2label"].items()}
    config["label2id"] = {v: int(k) for k, v in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_model_that_lacks_a_class_is_refused(former, tmp_path, refused):
    folder = renamed(former, tmp_path / "other", {"cat": "feline", "couch": "settee"})
    with refused(folder, "cat, couch"):
        load_judge(f"mask2former={folder}")


@pytest.mark.parametrize("part", ["preprocessor_config.json", "config.json"])
def test_code_of_a_folder_is_never_run_nor_asked_about(former, tmp_path, monkeypatch, part):
    """`auto_map` names a class in a file of the folder, which transformers runs after a "y"."""
    folder = shutil.copytree(former, tmp_path / "copy")
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nclass Mine: pass\n"
    (folder / "mine.py").write_text(code)
    config = json.loads((folder / part).read_text())
    names = ["AutoImageProcessor", "AutoModel", "AutoConfig"]
    config["auto_map"] = dict.fromkeys(names, "mine.Mine")
    if "image_processor_type" in config:
        config["image_processor_type"] = "Mine"
    (folder / part).write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    with contextlib.suppress(InputError):
        load_judge(f"mask2former={folder}")
    assert not (tmp_path / "ran").exists()


def test_the_words_of_the_instance_checkpoint_are_known(former, tmp_path):
    """transformers converted it with mmdetection's words for COCO, as in RT-DETR's `sofa`."""
    folder = renamed(former, tmp_path / "voc", VOC_WORDS)
    judge = load_judge(f"mask2former-instance={folder}")[1]
    assert set(judge.labels.values()) == set(BY_LABEL)
    assert judge.labels[WORDS.index("couch")] == "couch"


@pytest.mark.parametrize("part", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_folder_with_a_damaged_or_missing_part_is_refused(former, tmp_path, refused, part):
    shutil.copytree(former, tmp_path / "copy")
    content = (tmp_path / "copy" / part).read_bytes()
    (tmp_path / "copy" / part).write_bytes(content[: len(content) // 2])
    with refused(tmp_path / "copy"):
        load_judge(f"mask2former={tmp_path / 'copy'}")
    (tmp_path / "copy" / part).unlink()
    with refused(tmp_path / "copy", "mask2former=FOLDER"):
        load_judge(f"mask2former={tmp_path / 'copy'}")


def test_a_folder_that_is_not_there_is_never_looked_for_on_the_hub(tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.create_connection", lambda *a, **k: pytest.fail("asked the hub"))
    with refused("models/nowhere", "folder"):
        load_judge("mask2former=models/nowhere")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [96, 512])
def test_the_input_size_is_the_hubs_or_the_published_evaluations(former, mode, size, tmp_path):
    """384 as the hub's preprocessor says, 800 as detectron2 has it; the identity has it."""
    folder = shutil.copytree(former, tmp_path / "hub")
    (folder / "preprocessor_config.json").write_text(json.dumps(HUB))
    hub, published = (load_judge(f"{name}={folder}")[1] for name in (mode, f"{mode}-800"))
    for judge, side in ((hub, 384), (published, 800)):
        inputs = judge.processor(images=[noise(1, size)], return_tensors="pt")
        assert inputs["pixel_values"].shape == (1, 3, side, side)
    assert "384x384" in hub.identity
    assert "800x1333" in published.identity
    assert hub.panoptic is published.panoptic is (mode == PANOPTIC)


def test_weights_that_lack_a_layer_are_refused_unless_nothing_uses_it(former, tmp_path, refused):
    """A layer that a file lacks would be random, and the table look plausible."""
    for lacking, said in [("swin.layernorm.weight", None), ("class_predictor.weight", "lack")]:
        folder = shutil.copytree(former, tmp_path / lacking)
        state = load_file(folder / "model.safetensors")
        kept = {key: value for key, value in state.items() if not key.endswith(lacking)}
        assert len(kept) == len(state) - 1
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
        if said is None:
            load_judge(f"mask2former={folder}")
        else:
            with refused(folder, said):
                load_judge(f"mask2former={folder}")


@pytest.mark.parametrize("mode", MODES)
def test_it_sees_on_cuda_what_it_sees_here(former, mode, monkeypatch):
    monkeypatch.setattr(Mask2FormerJudge, "THRESHOLD", 0.0)
    images = [noise(1), noise(2)]
    expected = load_judge(f"{mode}={former}")[1].segment(images)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with FakeGpu() as fake:
        found = load_judge(f"{mode}={former}")[1].segment(images)
    assert fake.marked
    assert any(each.instances for each in expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.instances == other.instances
