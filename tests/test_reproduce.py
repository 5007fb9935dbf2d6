"""`./reproduce.sh --profile` from a local hub and COCO server: weights, layouts, images, table."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tcig.data.emoji import FOLDER as EMOJI
from tcig.models.mini import WEIGHTS

ROOT = Path(__file__).parents[1]
PROFILE = """
base = "smoke"
judges = ["miniature"]
embedded = false
[methods.text-only]
weights = "org/stable-diffusion"
steps = 3
[methods.si]
weights = "org/stable-diffusion-inpainting"
steps = 2
[methods.bld]
weights = "org/stable-diffusion"
steps = 4
[methods.multidiffusion]
weights = "org/stable-diffusion"
steps = 3
[methods.tcig.first]
iterations = 4
[methods.tcig.second]
pipeline = "org/stable-diffusion"
"""


@pytest.fixture
def coco_server(open_server, monkeypatch):
    """The embedded data in place of COCO's."""
    server = open_server()
    monkeypatch.setenv("TCIG_COCO_MIRROR", server.address)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted((EMOJI / "annotations").iterdir()):
            archive.write(path, f"annotations/{path.name}")
    server.files["/annotations/annotations_trainval2017.zip"] = buffer.getvalue()
    for path in (EMOJI / "val2017").iterdir():
        server.files[f"/val2017/{path.name}"] = path.read_bytes()
    return server


@pytest.fixture
def profile(hub, tmp_path):
    """A profile whose diffusion models are the hub's; what its runs leave is removed."""
    for name in ("stable-diffusion", "stable-diffusion-inpainting"):
        files = [path for path in (WEIGHTS / name).rglob("*") if path.is_file()]
        content = {p.relative_to(WEIGHTS / name).as_posix(): p.read_bytes() for p in files}
        hub.add(f"org/{name}", content)
    path = tmp_path / f"reproduced-{os.getpid()}.toml"
    path.write_text(PROFILE)
    yield path
    shutil.rmtree(ROOT / "runs" / path.stem, ignore_errors=True)


@pytest.mark.skipif(
    not (Path(sys.prefix) / ".tcig-installed").exists(),
    reason=f"{sys.prefix} was not set up by the project's scripts, which would install again",
)
def test_from_nothing_to_the_table(profile, coco_server, tmp_path):
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix}
    command = ["bash", str(ROOT / "reproduce.sh"), "--profile", str(profile)]
    command += ["--coco", str(tmp_path / "coco"), "--limit", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = ROOT / "runs" / profile.stem
    table = (out / "table.md").read_text()
    assert done.stdout.endswith(table)
    for row in ("real", "text-only", "si", "bld", "multidiffusion", "tcig"):
        assert f"| {row} " in table
    assert "estimated in all" in done.stdout
    assert (out / "figures" / "systems.png").exists()
    assert "<!doctype html>" in (out / "report.html").read_text()[:200].lower()
    assert "clip_caption" in (out / "quality.md").read_text()
    assert "text-only" in (out / "pairs.md").read_text()
    assert len(json.loads((out / "result.json").read_text())["rows"]) == 9 + 1
    for model in ("stable-diffusion", "stable-diffusion-inpainting"):
        assert done.stderr.count(f"org/{model}: ") == 1, "fetched once"


def test_help_needs_no_environment(tmp_path):
    script = shutil.copy(ROOT / "reproduce.sh", tmp_path)
    done = subprocess.run(
        ["bash", script, "--limit", "3", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    named = set(re.findall(r"^ +(--[a-z]+)\)", (ROOT / "reproduce.sh").read_text(), re.MULTILINE))
    assert named <= set(re.findall(r"--[a-z]+", done.stdout))
    assert "#" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["reproduce.sh"]
