"""Ray's workers: processes that generate and judge, on this machine or on a cluster."""

import logging
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tcig.data.files import DeviceLostError, InputError
from tcig.data.records import RunSpec
from tcig.eval.images import SampleImage, Sizes
from tcig.eval.judges import load_judge
from tcig.eval.score import JudgedSample, RemoteJudge, judge_batch
from tcig.models.devices import release, set_tf32
from tcig.run.batches import BatchGenerator, GeneratedSample, Sample
from tcig.run.experiment import Experiment
from tcig.run.spec import choose_rows

ATTEMPTS = 2
"""Attempts before a task is assumed to crash its worker (our choice)."""
CONNECT_TIMEOUT = 10
"""Seconds within which a cluster must accept a connection (our choice)."""
ALIVE_INTERVAL = 5
"""Seconds without a result after which the cluster is checked (our choice)."""
ENVIRONMENT_PREFIX = "TCIG_"
"""Environment variables with this prefix are forwarded to the workers."""


Task = tuple
"""The name of a method of `Worker`, then its arguments."""


class Died(NamedTuple):
    """Takes the place of a task's result: its worker died at each attempt."""

    reason: str


class Worker:
    """A process of Ray that keeps the networks of its last task."""

    def __init__(self, experiment: Experiment, threads: int, environment: dict[str, str]):
        import torch

        os.environ.update(environment)
        if threads:
            torch.set_num_threads(threads)
        profile = experiment.profile
        self._experiment, self._sizes = experiment, Sizes(profile.size, profile.score_size)
        self._loaded, self._sources = None, ()

    def set_up(self, index: int) -> RunSpec:
        """Sets a row up; rows that share weights share them in memory."""
        if self._loaded != index:
            experiment = self._experiment
            rows = choose_rows(experiment.profile, experiment.methods, experiment.settings)
            self._generator = None
            self._let_go(rows[index].sources)
            self._spec, method = experiment.set_up(rows[index])
            self._generator = BatchGenerator(method, experiment.profile.batch)
            self._loaded = index
        return self._spec

    def generate(self, index: int, run: str, samples: Sequence[Sample]) -> list[GeneratedSample]:
        """Generates samples of a row, whose run has this hash."""
        try:
            spec = self.set_up(index)
            if spec.hash != run:
                raise InputError(
                    f"{spec.method}: workers differ in its code, version or weights; install the "
                    "same on all machines."
                )
            return list(self._generator.generate(samples))
        except DeviceLostError:
            os._exit(1)  # Ray starts a new process, which gets the device back

    def load_judge(self, name: str) -> RemoteJudge:
        """Loads a judge in place of a row."""
        if self._loaded != name:
            self._generator = self._judge = None
            self._let_go(())
            self._judge = load_judge(name)[1]
            self._loaded = name
        return RemoteJudge(self._judge.identity, self._judge.kind)

    def judge(self, name: str, batch: Sequence[SampleImage]) -> list[JudgedSample]:
        """Segments a batch of images and counts their pixels."""
        self.load_judge(name)
        set_tf32(False)
        return judge_batch(self._judge, self._sizes, batch)

    def _let_go(self, sources: tuple[str, ...]) -> None:
        if sources != self._sources:
            release()
        self._loaded, self._sources = None, sources


class Pool:
    """Workers on this machine or a cluster; a context manager."""

    def __init__(
        self, number: int | None, threads: int, address: str | None, experiment: Experiment
    ):
        """Starts Ray and the workers, see `tcig.run.executors.Workers`.

        Raises:
            InputError: Ray is not installed or not reachable, or has too few cores or GPUs.
        """
        try:
            import ray
        except ImportError:
            raise InputError(
                "--engine ray needs Ray, which is not installed: pip install 'tcig[ray]'."
            ) from None
        self._ray = ray
        if address:
            _check_reachable(address)
            where = {"address": address}
        else:
            cores = {"num_cpus": number * threads} if number else {}
            where = {"address": "local", "include_dashboard": False, **cores}
        try:
            ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"no Ray cluster at {address or 'hand'} ({reason}).") from None
        resources = ray.cluster_resources()
        device = experiment.profile.compute.requested
        gpus = {"cpu": 0, "mps": 0, "cuda": 1, "gpu": 1}.get(device, resources.get("GPU", 0))
        kind, each = ("GPU", 1) if gpus else ("CPU", threads)
        most = int(resources.get(kind, 0)) // each
        self.size = number or most
        if not 0 < self.size <= most:
            ray.shutdown()
            raise InputError(
                f"{self.size or 'any'} workers of {each} {kind} each are more than the "
                f"{most * each} there: give fewer --workers or --threads."
            )
        need = {"num_gpus": 1} if gpus else {"num_cpus": threads}
        worker = ray.remote(**need, max_restarts=-1, max_task_retries=ATTEMPTS - 1)(Worker)
        environment = {k: v for k, v in os.environ.items() if k.startswith(ENVIRONMENT_PREFIX)}
        arguments = _portable(experiment), 0 if gpus else threads, environment
        self._idle = [worker.remote(*arguments) for _ in range(self.size)]

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_) -> None:
        with suppress(Exception):  # a cluster that is gone cannot be shut down
            self._ray.shutdown()

    def results(self, tasks: deque[Task]) -> Iterator[tuple[Task, Any]]:
        """Does tasks in order, each on the next free worker; the caller may add tasks meanwhile.

        Yields:
            Each task and its result, or `Died`, as soon as it is done.

        Raises:
            Exception: a task raised it.
            InputError: the cluster is gone.
        """
        ray, busy = self._ray, {}
        try:
            while tasks or busy:
                while tasks and self._idle:
                    worker, task = self._idle.pop(), tasks.popleft()
                    method, *arguments = task
                    busy[getattr(worker, method).remote(*arguments)] = worker, task
                done, _ = ray.wait(list(busy), timeout=ALIVE_INTERVAL)
                for future in done:
                    worker, task = busy.pop(future)
                    self._idle.append(worker)
                    try:
                        result = ray.get(future)
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause from None
                    except ray.exceptions.RayError as error:
                        self._check_alive()
                        result = Died(_reason(error))
                    yield task, result
                if not done:
                    self._check_alive()
        finally:
            for worker, _ in busy.values():  # nobody waits for these any more
                with suppress(Exception):
                    ray.kill(worker)

    def _check_alive(self) -> None:
        with suppress(Exception):
            if any(node["Alive"] for node in self._ray.nodes()):
                return
        raise InputError("the Ray cluster is gone; the same command goes on from here.")


def _portable(experiment: Experiment) -> Experiment:
    """Returns an experiment without layouts and classes, and with absolute paths."""
    data = experiment.data
    return experiment._replace(
        methods=[absolute(method) for method in experiment.methods],
        rows=(),
        data=data._replace(coco=data.coco and data.coco.resolve(), layouts=(), drawn=()),
        out=experiment.out.resolve(),
    )


def absolute(target: str) -> str:
    """Makes the path in path/to/file.py:Class absolute, because a worker has another folder."""
    file, colon, kind = target.rpartition(":")
    return f"{Path(file).resolve()}:{kind}" if colon and file.endswith(".py") else target


def _check_reachable(address: str) -> None:
    """Refuses a cluster that does not answer; Ray itself would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
    except OSError as error:
        raise InputError(f"no Ray cluster at {address} ({error.strerror or error}).") from None


def _reason(error: Exception) -> str:
    """Says in a phrase why a worker died."""
    if type(error).__name__ == "OutOfMemoryError":
        return "the machine ran out of memory"
    return f"its process died {ATTEMPTS} times, as one does that is killed or lacks memory"
