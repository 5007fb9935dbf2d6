"""`tcig weights` against a local hub."""

import os

import pytest
from servers import REVISION

from tcig import cli

NAME = "timm/vit_base_patch32_clip_224.openai"
CONTENT = os.urandom(200_000)
FILES = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": CONTENT}


@pytest.fixture
def weights(capsys):
    """Runs the command: its status, standard output and error."""

    def call(*arguments):
        status = cli.main(["weights", *arguments])
        return status, *capsys.readouterr()

    return call


def test_fetched_listed_found_and_verified(weights, hub, weights_store):
    hub.add(NAME, FILES)
    folder = weights_store / NAME.replace("/", "--")
    assert weights("fetch", NAME)[:2] == (0, f"{NAME}\t{folder}\n")
    assert weights("where")[:2] == (0, f"{NAME}\t{folder}\n")
    assert weights("verify")[:2] == (0, f"ok   {NAME}\n")
    (line,) = (line for line in weights("list")[1].splitlines() if line.startswith(NAME))
    assert REVISION[:12] in line
    assert "locked" in line
    assert line.endswith("yes")
    (folder / "open_clip_model.safetensors").write_bytes(CONTENT[::-1])
    status, out, _ = weights("verify", NAME, "org/other")
    wrong, unknown = out.splitlines()
    assert status == 1
    assert wrong.startswith(f"FAIL {NAME}: ")
    assert wrong.endswith("open_clip_model.safetensors")
    assert unknown == "FAIL org/other: it was not fetched"
    (folder / "open_clip_config.json").unlink()
    assert weights("where")[:2] == (1, f"{NAME}\tnot here\n")


def test_profiles_and_their_rows_name_what_they_need(weights):
    status, out, _ = weights("list", "--profile", "paper", "--methods", "real", "controlnet")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines() if "/" in line.split(" ")[0]] == [
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "lllyasviel/control_v11p_sd15_seg",
        "facebook/mask2former-swin-large-coco-panoptic",
        "timm/vit_large_patch14_clip_224.openai",
    ]
    assert "586e9e4e..." in weights("list", "--profile", "paper")[1]
    status, out, _ = weights("list", "--profile", "mini")
    assert (status, out) == (0, "the profile mini needs no weights but those shipped\n")


def test_a_model_that_fails_costs_no_other(weights, hub):
    hub.add(NAME, FILES)
    status, _, error = weights("fetch", "org/gone", NAME)
    assert status == 2
    assert "org/gone is not on" in error
    assert error.endswith("1 of 2 could not be fetched; see above.\n")
    assert weights("verify")[:2] == (0, f"ok   {NAME}\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["fetch"], "nothing to fetch"),
        (["fetch", "a/b", "c/d", "--source", "x"], "apply to one model"),
        (["verify"], "no weights were fetched"),
        (["fetch", "--methods", "si"], "give --profile"),
        (["fetch", "--profile", "mini", "--methods", "gligen"], "weights is empty"),
        (["fetch", "--profile", "mini", "--methods", "gliggen"], "did you mean"),
    ],
)
def test_misuse_is_one_sentence(weights, arguments, reason):
    status, _, error = weights(*arguments)
    assert status == 2
    assert reason in error
    assert error.count("\n") == 1
