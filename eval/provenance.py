"""Where a result comes from: the command, the code, the packages, the machine."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

import tcig
from tcig.models.devices import PLAIN, name_of

PACKAGES = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "taming-transformers",
    "pycocotools",
    "numpy",
    "scipy",
    "pillow",
)
"""Packages that results may depend on."""


class Provenance(BaseModel):
    """How a result came to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    at: str
    """UTC, ISO 8601, to the second."""
    tcig: str
    """Version."""
    revision: str | None
    """Commit of tcig's git checkout, None without one."""
    dirty: bool | None
    """Whether files of it differed from that revision."""
    python: str
    packages: dict[str, str]
    system: str
    device: str
    """On which the command ran; a row has those that its images were drawn on."""
    processor: str
    cores: int
    memory_gib: float


def provenance(command: Sequence[str]) -> Provenance:
    """Returns the provenance of a result of this process, which runs `command`."""
    commit, dirty = revision()
    return Provenance(
        command=shlex.join(command),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        tcig=version("tcig"),
        revision=commit,
        dirty=dirty,
        python=platform.python_version(),
        packages={name: version(name) for name in PACKAGES},
        system=f"{platform.system()} {platform.machine()}",
        device=name_of(PLAIN),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    )


def _processor() -> str:
    """Returns the processor's model where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def revision() -> tuple[str | None, bool | None]:
    """Returns the commit of tcig's checkout, and whether tracked files differ; None without one."""
    root = Path(tcig.__file__).parents[1]
    if not (root / ".git").exists():  # a checkout around an installed tcig is not tcig's
        return None, None
    commands = ["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]
    try:
        commit, changes = (
            subprocess.run(["git", "-C", root, *each], capture_output=True, text=True, check=True)
            for each in commands
        )
        return commit.stdout.strip(), bool(changes.stdout)
    except (OSError, subprocess.CalledProcessError):
        return None, None
