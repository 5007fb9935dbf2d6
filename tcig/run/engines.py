"""Engines: who draws and judges. `ray` has resident workers, one for each GPU or few cores.

A worker is an actor of Ray Core: a process that keeps what it loaded and is given one task after
another. Only the process that asked writes to the run's folder, so workers need not reach it.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from tcig.data.errors import DeviceLostError, InputError

ATTEMPTS = 2
"""How often a task is given to a worker before the task is taken for what kills workers; ours."""
PATIENCE = 10
"""Seconds that a cluster's address may take to answer; ours."""
GIVEN = "TCIG_"
"""Environment variables of these names hold for workers too, wherever they are."""


class Task(NamedTuple):
    """A function, by which workers find it in their own installation, and its arguments."""

    function: Callable[..., Any]
    arguments: Sequence[Any]


class Lost(NamedTuple):
    """Instead of a task's result: workers died on it."""

    reason: str


class _Worker:
    """A process that does tasks; see `Pool`."""

    def __init__(self, threads: int, environment: dict[str, str]):
        os.environ.update(environment)
        import torch

        if threads:
            torch.set_num_threads(threads)

    def do(self, task: Task) -> Any:
        try:
            found = task.function(*task.arguments)
            return list(found) if isinstance(found, Iterator) else found
        except DeviceLostError:
            os._exit(1)  # a new process gets the device back, and the task again


class Pool:
    """Resident workers, of this machine or of a cluster; a context manager."""

    def __init__(self, workers: int | None, threads: int, address: str | None, gpus: bool | None):
        """Says how many there will be.

        Args:
            workers: how many; None: as many as there are GPUs, or cores for their threads.
            threads: of each worker, where it has no GPU.
            address: of a running cluster, as `ray start` prints it; None: this machine.
            gpus: whether each has a GPU of its own; None: where there is one.
        """
        self._asked, self._threads, self._address, self._gpus = workers, threads, address, gpus
        self.size = 0

    def __enter__(self) -> "Pool":
        """Starts Ray and the workers, which have loaded nothing yet.

        Raises:
            InputError: Ray is not installed or cannot be reached, or has less than was asked for.
        """
        try:
            import ray
        except ImportError:
            raise InputError(
                "--engine ray needs Ray, which is not installed: pip install 'tcig[ray]'."
            ) from None
        self._ray = ray
        if self._address:
            where = {"address": _reached(self._address)}
        else:
            cores = self._asked and {"num_cpus": self._asked * self._threads}
            where = {"address": "local", "include_dashboard": False, **(cores or {})}
        try:
            ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"no Ray cluster at {self._address or 'hand'} ({reason}).") from None
        there = ray.cluster_resources()
        if self._gpus is None:
            self._gpus = there.get("GPU", 0) > 0
        kind, each = ("GPU", 1) if self._gpus else ("CPU", self._threads)
        most = int(there.get(kind, 0)) // each
        self.size = self._asked or most
        if not 0 < self.size <= most:
            ray.shutdown()
            raise InputError(
                f"{self.size or 'any'} workers of {each} {kind} each are more than the "
                f"{most * each} there: give fewer --workers or --threads."
            )
        need = {"num_gpus": 1} if self._gpus else {"num_cpus": self._threads}
        self._kind = ray.remote(**need, max_restarts=0)(_Worker)
        self._idle = [self._worker() for _ in range(self.size)]
        return self

    def __exit__(self, *_) -> None:
        with suppress(Exception):  # of a cluster that is gone there is nothing to shut down
            self._ray.shutdown()

    def run(self, take: Callable[[], Task | None]) -> Iterator[tuple[Task, Any]]:
        """Does tasks until there are none, each on the next free worker.

        A task whose worker dies is given to a new one; after `ATTEMPTS` it is lost.

        Args:
            take: the next task, None if there is none at the moment. It is asked again whenever a
                result was dealt with, which may have brought more.

        Yields:
            Each task and its result, or `Lost`, as they are done.

        Raises:
            Exception: what a task raised.
            InputError: the cluster is gone.
        """
        ray, idle = self._ray, self._idle
        again: list[tuple[Task, int]] = []
        busy: dict[Any, tuple[Any, Task, int]] = {}
        try:
            while True:
                while idle and (given := again.pop() if again else self._first(take)):
                    worker = idle.pop()
                    busy[worker.do.remote(given[0])] = worker, *given
                if not busy:
                    return
                done, _ = ray.wait(list(busy), num_returns=1)
                worker, task, attempt = busy.pop(done[0])
                try:
                    found = ray.get(done[0])
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    if not ray.is_initialized() or not self._alive():
                        raise InputError(
                            "the Ray cluster is gone; the same command goes on from here."
                        ) from None
                    with suppress(Exception):
                        ray.kill(worker)
                    idle.append(self._worker())
                    if attempt < ATTEMPTS:
                        again.append((task, attempt + 1))
                        continue
                    found = Lost(_reason(error))
                else:
                    idle.append(worker)
                yield task, found
        finally:
            for worker, *_ in busy.values():  # nobody waits for these any more
                with suppress(Exception):
                    ray.kill(worker)

    @staticmethod
    def _first(take: Callable[[], Task | None]) -> tuple[Task, int] | None:
        task = take()
        return (task, 1) if task else None

    def _worker(self) -> Any:
        given = {name: value for name, value in os.environ.items() if name.startswith(GIVEN)}
        return self._kind.remote(0 if self._gpus else self._threads, given)

    def _alive(self) -> bool:
        try:
            return any(node["Alive"] for node in self._ray.nodes())
        except Exception:
            return False


def _reached(address: str) -> str:
    """The address of a cluster; Ray itself waits minutes for one that is not there."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), PATIENCE).close()
        except OSError as error:
            raise InputError(f"no Ray cluster at {address} ({error.strerror or error}).") from None
    return address


def _reason(error: Exception) -> str:
    """Of a worker's death, in a phrase."""
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return "the machine ran out of memory"
    return f"its process died {ATTEMPTS} times, as one does that is killed or lacks memory"
