"""`tcig` in a process of its own, forked from one that has imported it: most of a start is that."""

import os
import sys
from collections.abc import Mapping
from itertools import count
from multiprocessing import get_context
from pathlib import Path

_forks = get_context("forkserver")
_forks.set_forkserver_preload(["tcig.run.workers", "torchvision", "ray"])
_numbers = count()


class Command:
    """A command that runs; its standard error goes to a file."""

    def __init__(self, arguments: list[object], folder: Path, **environment: str):
        """Starts it in a folder, with the environment of this process and more."""
        self._err = folder / f"err-{next(_numbers)}"
        # Ray sets variables in a process that used it, which another one would misread.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        given = list(map(str, arguments)), folder, self._err, inherited | environment
        self._process = _forks.Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """By SIGKILL; returns when it is gone."""
        self._process.kill()
        self._process.join()

    def finish(self, timeout: float = 60) -> tuple[int, str]:
        """Waits for its end: exit status and standard error."""
        self._process.join(timeout)
        assert self.poll() is not None, f"still running after {timeout} s"
        return self.poll(), self._err.read_text()


def _run(arguments: list[str], folder: Path, err: Path, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for place, descriptor in [(os.devnull, 1), (err, 2)]:
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    from tcig.cli import main

    sys.exit(main(arguments))
