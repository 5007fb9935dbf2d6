"""Where weights are found, what their identity depends on, and the catalogue's repositories."""

import json
import os
import tomllib
from pathlib import Path

import pytest

from tcig.models.mini import WEIGHTS
from tcig.models.sources import catalogue, list_files
from tcig.models.weights import hash_of, identity_of, local, locate
from tcig.profiles import load_profile, names
from tcig.run.spec import needs


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "model"
    (home / "unet").mkdir(parents=True)
    (home / "index.json").write_text("{}")
    (home / "unet" / "weights").write_bytes(b"\0\1")
    return home


def test_shipped_models_and_folders_are_found(folder, monkeypatch):
    assert locate("mini:clip") == WEIGHTS / "clip"
    assert locate(str(folder)) == locate(folder) == folder
    monkeypatch.chdir(folder.parent)
    for source in ("model", "./model", "../" + folder.parent.name + "/model", "model/unet"):
        assert locate(source).samefile(folder / ("unet" if "unet" in source else ""))
    monkeypatch.setenv("HOME", str(folder.parent))
    assert locate("~/model") == folder


@pytest.mark.parametrize("source", ["org/model", "vqgan_imagenet_f16_16384"])
def test_a_hub_id_or_a_name_of_the_catalogue_is_fetched(source, refused):
    assert local(source) is None
    with refused("gives no answer"):
        locate(source)


@pytest.mark.parametrize(
    "source", ["file", "./org/model", "/org/model", "~/model", "a/b/c", "", "~nosuchuser/x"]
)
def test_anything_else_must_be_a_folder(source, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    with refused(f"weights '{source}' not found; expected a folder"):
        locate(source)
    known = "clip, clip-score, stable-diffusion, stable-diffusion-inpainting, t2i-adapter, vqgan"
    with refused(f"unknown miniature model 'mini:{source}'", f"available: {known}."):
        locate(f"mini:{source}")


def test_an_identity_is_of_names_and_contents_not_of_times_or_place(folder):
    before = identity_of(folder)
    assert before == identity_of(str(folder)) == hash_of(folder)
    assert len(before) == 64
    for path in (folder / "index.json", folder / "unet" / "weights", folder / "unet"):
        os.utime(path, (1, 1))
    assert hash_of(folder) == before
    assert hash_of(folder.rename(folder.with_name("moved"))) == before
    assert identity_of("mini:clip") == hash_of(WEIGHTS / "clip")


@pytest.mark.parametrize(
    "change",
    [
        lambda home: (home / "unet" / "weights").write_bytes(b"\0\2"),
        lambda home: (home / "unet" / "weights").rename(home / "unet" / "other"),
        lambda home: (home / "unet").rename(home / "vae"),
        lambda home: (home / "unet" / "weights").rename(home / "weights"),
        lambda home: (home / "unet" / "more").write_bytes(b""),
        lambda home: (home / "index.json").unlink(),
        lambda home: [(home / f).write_bytes(b) for f, b in (("index.json", b"\0\1"),)],
    ],
    ids=["content", "name", "folder", "moved", "added", "removed", "equal contents"],
)
def test_an_identity_changes_with(folder, change):
    before = hash_of(folder)
    change(folder)
    assert hash_of(folder) != before


def test_links_count_by_what_they_lead_to_and_hidden_files_not_at_all(folder, tmp_path):
    first = hash_of(folder)
    (folder / ".DS_Store").write_text("x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "file").write_text("x")
    assert hash_of(folder) == first
    (folder / "unet").rename(tmp_path / "elsewhere")
    (folder / "unet").symlink_to(tmp_path / "elsewhere")
    assert hash_of(folder) == first
    (tmp_path / "elsewhere" / "weights").write_bytes(b"\0\2")
    assert hash_of(folder) != first
    (folder / "loop").symlink_to(folder)
    hash_of(folder)


LISTED = tomllib.loads(Path(__file__).with_name("hub_files.toml").read_text())
HUB_IDS = [name for name, entry in catalogue().items() if not entry.urls]
VQGANS = ["eminorhan/gpt_visual_memory", "xvjiarui/taming-vq-f16-n16384"]
PARTS = "feature_extractor image_noising_scheduler safety_checker scheduler transformer unet vae"
PARTS = {*PARTS.split(), "watermarker"}


def names_of(repository, which):
    listed = LISTED[repository]
    return (LISTED[listed["same_as"]] if "same_as" in listed else listed)[which].split()


def index_of(paths):
    """`model_index.json` of a pipeline with these folders, whether or not they are fetched."""
    folders = {path.split("/")[0] for path in paths if "/" in path}
    parts = [each for each in folders if each in PARTS or each.startswith(("text_e", "tokenizer"))]
    return json.dumps({part: ["diffusers", "Model"] for part in sorted(parts)}).encode()


@pytest.mark.parametrize("name", [*HUB_IDS, *VQGANS])
def test_what_is_listed_of_a_repository_is_what_its_loader_reads(name, hub):
    """Where a revision is pinned, the newest one has pickles only."""
    paths = names_of(name, "needed") + names_of(name, "others")
    files = dict.fromkeys(paths, b"{}")
    if "model_index.json" in files:
        files["model_index.json"] = index_of(paths)
    revision = LISTED[name].get("revision")
    commit = revision if revision and len(revision) == 40 else "a" * 40
    hub.add(name, files, revision=commit, names=[revision] if revision else [])
    if revision:
        pickles = {path: b"" for path in paths if path.endswith((".bin", ".json"))}
        hub.add(name, pickles, revision="b" * 40)
    if name in VQGANS:
        listing = list_files(catalogue()["vqgan_imagenet_f16_16384"], name)
        taming = {"last.ckpt", "model.yaml"}
        hubs = {"config.json", "diffusion_pytorch_model.bin"}
        assert set(listing.files) == (taming if "eminorhan" in name else hubs)
    else:
        listing = list_files(catalogue()[name])
        assert set(listing.files) == set(names_of(name, "needed"))
        assert catalogue()[name].revision == revision
    assert listing.revision == commit
    places = {file.place.partition(f"/resolve/{commit}/")[2] for file in listing.files.values()}
    assert places == set(names_of(name, "needed"))


def test_every_model_of_every_profile_is_in_the_catalogue_and_its_names_are_known():
    wanted = {each for name in names() for each in needs(load_profile(name))}
    assert wanted <= set(catalogue())
    assert {name for name in wanted if not catalogue()[name].urls} <= set(LISTED)
