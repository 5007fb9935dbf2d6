"""Ray's workers: processes that generate and judge, on this machine or on a cluster."""

import logging
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tcig.data.files import DeviceLostError, InputError
from tcig.data.records import RunSpec
from tcig.eval.images import SampleImage, Sizes
from tcig.eval.judges import judge_name, load_judge
from tcig.eval.score import JudgedSample, RemoteJudge, judge_batch
from tcig.models.devices import release, set_tf32
from tcig.profiles import Profile
from tcig.run.batches import BatchGenerator, GeneratedSample, Sample, failed_record
from tcig.run.experiment import Experiment, Outcome
from tcig.run.generate import ProgressTracker, list_samples, missing_samples, split_batches
from tcig.run.spec import choose_rows

ATTEMPTS = 2
"""Attempts before a task is assumed to crash its worker (our choice)."""
CONNECT_TIMEOUT = 10
"""Seconds within which a cluster must accept a connection (our choice)."""
ALIVE_INTERVAL = 2
"""Seconds without a result after which the cluster is checked (our choice)."""


class Died(NamedTuple):
    """Takes the place of a task's result: its worker died at each attempt."""

    reason: str


class Worker:
    """A process of Ray that keeps the networks of its last task."""

    def __init__(self, experiment: Experiment, threads: int, environment: dict[str, str]):
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
            if rows[index].sources != self._sources:
                release()
            self._sources = rows[index].sources
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
            release()
            self._judge = load_judge(name)[1]
            self._loaded = name
        return RemoteJudge(self._judge.identity, self._judge.kind)

    def judge(self, name: str, batch: Sequence[SampleImage]) -> list[JudgedSample]:
        """Segments a batch of images and counts their pixels."""
        self.load_judge(name)
        set_tf32(False)
        return judge_batch(self._judge, self._sizes, batch)


@dataclass
class Workers:
    """Ray's workers. Ray restarts one that dies and repeats its task; only this process writes."""

    number: int | None = None
    """Number of workers (default: one per GPU, else one per `threads` CPU cores)."""
    threads: int = 1
    """CPU cores of each worker, where it has no GPU."""
    address: str | None = None
    """Address of a running cluster, as `ray start` prints it (default: this machine)."""

    def check(self, profile: Profile) -> None:
        """Checks nothing: the workers' machines need not be like this one."""

    def run(self, experiment: Experiment) -> Outcome:
        """Generates what the runs lack, then scores them.

        Raises:
            InputError: Ray cannot be used, a row cannot be set up, or workers differ.
        """
        try:
            import ray
        except ImportError:
            raise InputError(
                "--engine ray needs Ray, which is not installed: pip install 'tcig[ray]'."
            ) from None
        self._ray = ray
        self._start(experiment)
        try:
            outcome = self._generate(experiment)
            for name in experiment.judges:
                self._score(experiment, outcome.folders, absolute(name))
        finally:
            with suppress(Exception):  # a cluster that is gone cannot be shut down
                ray.shutdown()
        return outcome

    def _start(self, experiment: Experiment) -> None:
        """Starts Ray and the workers."""
        ray, number, threads, address = self._ray, self.number, self.threads, self.address
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
        count = number or most
        if not 0 < count <= most:
            ray.shutdown()
            raise InputError(
                f"{count or 'any'} workers of {each} {kind} each are more than the {most * each} "
                "there: give fewer --workers or --threads."
            )
        need = {"num_gpus": 1} if gpus else {"num_cpus": threads}
        worker = ray.remote(**need, max_restarts=-1, max_task_retries=ATTEMPTS - 1)(Worker)
        environment = {k: v for k, v in os.environ.items() if k.startswith("TCIG_")}
        arguments = _portable(experiment), 0 if gpus else threads, environment
        self._idle = [worker.remote(*arguments) for _ in range(count)]

    def _generate(self, experiment: Experiment) -> Outcome:
        """Generates all rows; batches of a row that is set up go before the next row's set-up."""
        rows = [row.row for row in experiment.rows]
        samples = list_samples(experiment.data.drawn, experiment.samples)
        tasks = deque(("set_up", index) for index in range(len(rows)))
        stores = {}
        total = len(rows) * len(samples)
        with ExitStack() as stack, ProgressTracker(total, ", ".join(rows)) as tracker:
            for (method, index, *arguments), result in self._results(tasks):
                row = rows[index]
                if method == "set_up":
                    if isinstance(result, Died):
                        raise InputError(f"{row} cannot be set up by a worker: {result.reason}.")
                    store = stores[row] = stack.enter_context(experiment.open_store(result))
                    missing = missing_samples(samples, store)
                    tracker.skip(len(samples) - len(missing))
                    batches = split_batches(missing, experiment.profile.batch)
                    run = result.hash
                    tasks.extendleft(("generate", index, run, batch) for batch in reversed(batches))
                    continue
                run, batch = arguments
                if isinstance(result, Died) and len(batch) > 1:
                    tasks.extendleft(("generate", index, run, [each]) for each in reversed(batch))
                    continue
                if isinstance(result, Died):
                    result = [GeneratedSample(failed_record(*batch[0], result.reason), None)]
                for sample in result:
                    tracker.commit(stores[row], sample)
            failed = sum(tracker.count_failures(store, len(samples)) for store in stores.values())
        return Outcome([stores[row].folder for row in rows if stores[row].done], failed)

    def _score(self, experiment: Experiment, folders: Sequence[Path], name: str) -> None:
        """Scores the folders by a judge that all workers load."""

        def alive(result: Any) -> Any:
            if isinstance(result, Died):
                raise InputError(f"the judge {name} cannot be used by a worker: {result.reason}.")
            return result

        count = len(self._idle)
        loading = deque([("load_judge", name)] * count)
        judges = {alive(result) for _, result in self._results(loading)}
        if len(judges) > 1:
            raise InputError(
                f"workers have other weights or code of the judge {judge_name(name)}; install the "
                "same on all machines."
            )

        def spread(batches: Iterable[Sequence[SampleImage]]) -> Iterator[list[JudgedSample]]:
            judging = (("judge", name, batch) for batch in batches)
            tasks = deque(islice(judging, count))
            for _, result in self._results(tasks):
                tasks.extend(islice(judging, 1))  # one by one, so that few images are in memory
                yield alive(result)

        experiment.score(folders, (judge_name(name), judges.pop()), spread)

    def _results(self, tasks: deque[tuple]) -> Iterator[tuple[tuple, Any]]:
        """Does tasks in order, each on the next free worker; the caller may add tasks meanwhile.

        Args:
            tasks: the name of a method of `Worker`, then its arguments.

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
                    except ray.exceptions.OutOfMemoryError:
                        result = Died("the machine ran out of memory")
                    except ray.exceptions.RayError:
                        self._check_alive()
                        result = Died(
                            f"its process died {ATTEMPTS} times, as one does that is killed or "
                            "lacks memory"
                        )
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
