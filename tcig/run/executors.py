"""Where an experiment is generated and scored: in this process, in shards, or by Ray's workers."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tcig.data.files import InputError, Shard
from tcig.data.records import RunSpec
from tcig.eval.images import SampleImage, Sizes
from tcig.eval.judges import judge_name, load_judge
from tcig.eval.score import JudgedSample, score_images
from tcig.methods.base import Method
from tcig.models.devices import release
from tcig.models.plugins import PluginError
from tcig.profiles import Profile
from tcig.run.batches import GeneratedSample, failed_record
from tcig.run.experiment import Experiment, Outcome
from tcig.run.generate import ProgressTracker, generate, list_samples, pending_batches
from tcig.run.spec import Chosen
from tcig.run.store import RunStore
from tcig.run.workers import Died, Pool, absolute


class Serial(NamedTuple):
    """This process, with the networks of one row in memory at a time."""

    shard: Shard | None = None
    """Generates only this part, and does not score."""

    def check(self, profile: Profile) -> None:
        """Refuses a profile whose device this machine lacks."""
        profile.compute.check_named()
        profile.compute.check_device()

    def run(self, experiment: Experiment) -> Outcome:
        """Generates what the runs lack, then scores them."""
        rows = experiment.rows
        ready = {row.row: _set_up(row, experiment) for row in rows if not row.sources}  # quick
        folders, failed, sources = [], 0, None
        for row in rows:
            if row.sources != sources:
                release()
            sources = row.sources
            made = ready.pop(row.row) if row.row in ready else _set_up(row, experiment)
            if made is None:
                failed += 1
                continue
            with experiment.open_store(made[0], self.shard) as store:
                asked = experiment.data.drawn, experiment.samples, experiment.profile.batch
                failed += generate(made[1], *asked, store, self.shard)
            folders += [store.folder] if store.done else []
            del made
        release()
        if self.shard is None:
            for judge in experiment.judges:
                _score(experiment, folders, load_judge(judge))
        return Outcome(folders, failed)


def _set_up(row: Chosen, experiment: Experiment) -> tuple[RunSpec, Method] | None:
    """Sets a row up; None if a method from outside cannot be, which costs no other row."""
    try:
        return experiment.set_up(row)
    except PluginError as error:
        if row.code is None:
            raise
        print(f"tcig: error: {error}", file=sys.stderr)
        return None


def _score(experiment: Experiment, folders: Sequence[Path], judge: Any, spread: Any = None) -> None:
    """Scores the folders by a judge: its name and itself."""
    data, sizes = experiment.data, Sizes(experiment.profile.size, experiment.profile.score_size)
    for folder in folders:
        score_images(folder, data.layouts, data.manifest, judge, sizes, spread=spread)


class Workers(NamedTuple):
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
        with Pool(*self, experiment) as pool:
            outcome = _generate_rows(pool, experiment)
            for name in experiment.judges:
                _score_by_workers(pool, experiment, outcome.folders, absolute(name))
        return outcome


def _generate_rows(pool: Pool, experiment: Experiment) -> Outcome:
    """Generates all rows; batches of a row that is set up go before the next row's set-up."""
    rows = [row.row for row in experiment.rows]
    samples = list_samples(experiment.data.drawn, experiment.samples)
    tasks = deque(("set_up", index) for index in range(len(rows)))
    stores: dict[str, RunStore] = {}
    total = len(rows) * len(samples)
    with ExitStack() as stack, ProgressTracker(total, ", ".join(rows)) as tracker:
        for (method, index, *arguments), result in pool.results(tasks):
            row = rows[index]
            if method == "set_up":
                if isinstance(result, Died):
                    raise InputError(f"{row} cannot be set up by a worker: {result.reason}.")
                store = stores[row] = stack.enter_context(experiment.open_store(result))
                batches = pending_batches(samples, store, experiment.profile.batch)
                tracker.skip(len(samples) - sum(map(len, batches)))
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


def _score_by_workers(
    pool: Pool, experiment: Experiment, folders: Sequence[Path], name: str
) -> None:
    def alive(result: Any) -> Any:
        if isinstance(result, Died):
            raise InputError(f"the judge {name} cannot be used by a worker: {result.reason}.")
        return result

    loading = deque([("load_judge", name)] * pool.size)
    judges = {alive(result) for _, result in pool.results(loading)}
    if len(judges) > 1:
        raise InputError(
            f"workers have other weights or code of the judge {judge_name(name)}; install the "
            "same on all machines."
        )

    def spread(batches: Iterator[Sequence[SampleImage]]) -> Iterator[list[JudgedSample]]:
        judging = (("judge", name, batch) for batch in batches)
        tasks = deque(islice(judging, pool.size))
        for _, result in pool.results(tasks):
            tasks.extend(islice(judging, 1))  # one by one, so that few images are in memory
            yield alive(result)

    _score(experiment, folders, (judge_name(name), judges.pop()), spread)
