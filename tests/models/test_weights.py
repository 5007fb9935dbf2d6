"""Where weights are found, and what their identity depends on."""

import os
import shutil

import pytest

from tcig.data.errors import InputError
from tcig.models.mini import WEIGHTS
from tcig.models.weights import hash_of, identity_of, local, locate


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "model"
    (home / "unet").mkdir(parents=True)
    (home / "index.json").write_text("{}")
    (home / "unet" / "weights").write_bytes(b"\0\1")
    return home


def test_a_shipped_model_is_a_folder_of_the_package():
    assert locate("mini:stable-diffusion") == WEIGHTS / "stable-diffusion"
    assert (locate("mini:clip") / "open_clip_config.json").is_file()


def test_a_folder_is_itself(folder, monkeypatch):
    assert locate(str(folder)) == locate(folder) == folder
    monkeypatch.chdir(folder.parent)
    for source in ("model", "./model", "../" + folder.parent.name + "/model", "model/unet"):
        assert locate(source).samefile(folder / ("unet" if "unet" in source else ""))
    monkeypatch.setenv("HOME", str(folder.parent))
    assert locate("~/model") == folder


@pytest.mark.parametrize("source", ["org/model", "vqgan_imagenet_f16_16384"])
def test_what_is_no_folder_but_a_hub_id_or_of_the_catalogue_is_fetched(source):
    assert local(source) is None
    with pytest.raises(InputError, match=r"gives no answer"):
        locate(source)


def test_a_shipped_model_that_there_is_not_lists_those_there_are():
    with pytest.raises(InputError) as caught:
        locate("mini:stable")
    there = "clip, clip-score, stable-diffusion, stable-diffusion-inpainting, t2i-adapter, vqgan"
    assert str(caught.value) == f"no miniature model 'mini:stable': there are {there}."


@pytest.mark.parametrize("source", ["model", "./org/model", "/org/model", "~/model", "a/b/c"])
def test_what_can_be_no_hub_id_must_be_a_folder(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    for name in (source, "file"):
        with pytest.raises(
            InputError, match=f"no folder .?{name}.? of weights: give a folder"
        ) as e:
            locate(name)
        assert "\n" not in str(e.value)


def test_identity_is_of_names_and_contents_not_of_times_or_place(folder):
    before = hash_of(folder)
    assert len(before) == 64
    for path in (folder / "index.json", folder / "unet" / "weights", folder / "unet"):
        os.utime(path, (1, 1))
    assert hash_of(folder) == before
    assert hash_of(folder.rename(folder.with_name("moved"))) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda home: (home / "unet" / "weights").write_bytes(b"\0\2"),
        lambda home: (home / "unet" / "weights").rename(home / "unet" / "other"),
        lambda home: (home / "unet").rename(home / "vae"),
        lambda home: (home / "unet" / "weights").rename(home / "weights"),
        lambda home: (home / "unet" / "more").write_bytes(b""),
        lambda home: (home / "index.json").unlink(),
    ],
    ids=["content", "name", "folder", "moved", "added", "removed"],
)
def test_identity_changes_with(folder, change):
    before = hash_of(folder)
    change(folder)
    assert hash_of(folder) != before


def test_identity_knows_which_file_has_which_content(folder):
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
    before = hash_of(folder)
    (folder / "a").write_text("2")
    (folder / "b").write_text("1")
    assert hash_of(folder) != before


@pytest.mark.parametrize("source", ["", "mini:", "~nosuchuser/x"])
def test_names_of_nothing(source):
    with pytest.raises(InputError, match=r"^no ") as caught:
        locate(source)
    assert "\n" not in str(caught.value)


def test_the_identity_of_a_folder_is_that_of_its_files(folder):
    assert identity_of(folder) == identity_of(str(folder)) == hash_of(folder)
    assert identity_of("mini:clip") == hash_of(WEIGHTS / "clip")


def test_a_folders_identity_is_of_what_is_loaded(tmp_path):
    """Links count by what they lead to, hidden files not at all."""
    unets = [tmp_path / "one", tmp_path / "two"]
    for content, unet in zip("ab", unets, strict=True):
        unet.mkdir()
        (unet / "model.safetensors").write_text(content)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "unet").symlink_to(unets[0])
    first = hash_of(model)
    (model / ".DS_Store").write_text("x")
    (model / ".cache").mkdir()
    (model / ".cache" / "file").write_text("x")
    assert hash_of(model) == first
    (model / "unet").unlink()
    (model / "unet").symlink_to(unets[1])
    assert hash_of(model) != first
    (model / "unet").unlink()
    shutil.copytree(unets[0], model / "unet")
    assert hash_of(model) == first
    (model / "loop").symlink_to(model)
    hash_of(model)
