"""Every entry of the catalogue, against repositories with the file names of the real ones."""

import json
import tomllib
from pathlib import Path

import pytest
from hub_server import REVISION

from tcig.models.catalogue import catalogue
from tcig.models.sources import list_files
from tcig.profiles import load_profile, names
from tcig.run.needs import needs

LISTED = tomllib.loads(Path(__file__).with_name("hub_files.toml").read_text())
CLASSES = {
    "feature_extractor": ("transformers", "CLIPFeatureExtractor"),
    "safety_checker": ("stable_diffusion", "StableDiffusionSafetyChecker"),
    "watermarker": ("deepfloyd_if", "IFWatermarker"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
}
PARTS = ("text_encoder", "tokenizer", "unet", "transformer", "vae", "scheduler")
"""How the names of a pipeline's parts begin, but for `CLASSES` and IF's second scheduler."""


def names_of(repository, which):
    listed = LISTED[repository]
    return (LISTED[listed["same_as"]] if "same_as" in listed else listed)[which].split()


def index_of(paths):
    """`model_index.json` of a pipeline with these folders, whether or not they are fetched."""
    folders = sorted({path.split("/")[0] for path in paths if "/" in path})
    parts = [
        each
        for each in folders
        if each in (*CLASSES, *PARTS, "image_noising_scheduler")
        or (each[:-2] in PARTS and each[-2:] in ("_2", "_3"))
    ]
    classes = {part: CLASSES.get(part, ("diffusers", "Model")) for part in parts}
    return json.dumps({"_class_name": "Pipeline", **classes}).encode()


def serve(hub, repository):
    """The repository on the local hub, and the commit that is wanted of it.

    Where a revision is pinned, the newest one has pickles only.
    """
    paths = names_of(repository, "needed") + names_of(repository, "others")
    files = dict.fromkeys(paths, b"{}")
    if "model_index.json" in files:
        files["model_index.json"] = index_of(paths)
    revision = LISTED[repository].get("revision")
    if revision is None:
        hub.add(repository, files)
        return REVISION
    commit = revision if len(revision) == 40 else "a" * 40
    hub.add(repository, files, revision=commit, newest=False)
    answer = hub.server.files[f"/api/models/{repository}/revision/{commit}"]
    quoted = revision.replace("/", "%2F")
    hub.server.files[f"/api/models/{repository}/revision/{quoted}"] = answer
    pickles = {path: b"" for path in paths if path.endswith((".bin", ".json"))}
    hub.add(repository, pickles, revision="b" * 40)
    return commit


HUB_IDS = [name for name, entry in catalogue().items() if not entry.urls]


@pytest.mark.parametrize("name", HUB_IDS)
def test_what_is_listed_of_a_repository_is_what_its_loader_reads(name, hub):
    commit = serve(hub, name)
    listing = list_files(catalogue()[name])
    assert set(listing.files) == set(names_of(name, "needed"))
    assert listing.revision == commit


def test_every_model_of_every_profile_is_in_the_catalogue_and_its_names_are_known():
    wanted = {each for name in names() for each in needs(load_profile(name))}
    assert wanted <= set(catalogue())
    assert {name for name in wanted if not catalogue()[name].urls} <= set(LISTED)


@pytest.mark.parametrize("source", ["eminorhan/gpt_visual_memory", "xvjiarui/taming-vq-f16-n16384"])
def test_a_mirror_of_the_vqgan_has_what_its_loader_reads(source, hub):
    serve(hub, source)
    listing = list_files(catalogue()["vqgan_imagenet_f16_16384"], source)
    taming = ["last.ckpt", "model.yaml"]
    expected = taming if "eminorhan" in source else ["config.json", "diffusion_pytorch_model.bin"]
    assert sorted(listing.files) == expected
    places = {file.place.partition(f"/resolve/{REVISION}/")[2] for file in listing.files.values()}
    assert places == set(names_of(source, "needed"))


def test_a_pinned_revision_is_the_one_that_was_listed():
    for name in HUB_IDS:
        assert catalogue()[name].revision == LISTED[name].get("revision")
