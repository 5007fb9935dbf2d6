"""Rows and scores of a run on many workers; what a worker does stands first."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tcig.data.errors import InputError
from tcig.eval.images import SampleImage, Sizes
from tcig.eval.judges import Judge, judge_name, load_judge
from tcig.eval.score import JudgedSample, RemoteJudge, Spread, judge_batch, score_images
from tcig.methods.settings import parse_settings
from tcig.models.devices import set_tf32
from tcig.models.kept import release
from tcig.profiles import Profile
from tcig.run.draw import Drawn, Painter, Sample, failed_row
from tcig.run.engines import Lost, Pool, Task
from tcig.run.experiment import Experiment, Outcome
from tcig.run.generate import Ledger, pending_batches, samples_of
from tcig.run.spec import RunSpec, choose, set_up
from tcig.run.store import RunStore


class Recipe(NamedTuple):
    """A row, as a worker sets it up: see `tcig.run.spec`."""

    row: str
    method: str
    """Its name, or an absolute path/to/file.py:Class."""
    profile: Profile
    settings: dict[str, Any]
    coco: Path | None
    manifest: str
    masks: str


class _AtWork(NamedTuple):
    recipe: Recipe
    sources: tuple[str, ...]
    spec: RunSpec
    painter: Painter


_at_work: _AtWork | None = None


def prepare(recipe: Recipe) -> RunSpec:
    """Sets a row up, where this process has not yet; rows of the same weights share them."""
    global _at_work
    if _at_work is None or _at_work.recipe != recipe:
        before, _at_work = _at_work, None
        chosen = choose(recipe.method, recipe.profile, recipe.settings)
        if before and before.sources != chosen.sources:
            del before
            release()
        arguments = recipe.profile, recipe.coco, recipe.manifest, recipe.masks
        spec, method = set_up(chosen, *arguments)
        painter = Painter(method, recipe.profile.batch)
        _at_work = _AtWork(recipe, chosen.sources, spec, painter)
    return _at_work.spec


def draw(recipe: Recipe, run: str, samples: Sequence[Sample]) -> Iterator[Drawn]:
    """Draws samples of the run of this hash.

    Raises:
        InputError: the row would be another run here.
    """
    if prepare(recipe).hash != run:
        raise InputError(
            f"{recipe.row}: workers differ in its code, version or weights: install the same on "
            "all machines."
        )
    yield from _at_work.painter.draw(samples)


@cache
def _judge(name: str) -> Judge:
    global _at_work
    _at_work = None
    release()
    return load_judge(name)[1]


def identify(judge: str) -> RemoteJudge:
    """Loads a judge; what it is."""
    loaded = _judge(judge)
    return RemoteJudge(loaded.identity, loaded.kind)


def look(judge: str, sizes: Sizes, batch: Sequence[SampleImage]) -> list[JudgedSample]:
    """What a judge sees in a batch of images."""
    network = _judge(judge)
    set_tf32(False)
    return judge_batch(network, sizes, batch)


def draw_rows(
    pool: Pool,
    recipes: Sequence[Recipe],
    asked: Sequence[Sample],
    out: Path,
    record: dict,
    manifest: Path,
) -> tuple[int, list[Path]]:
    """Draws what the runs of all rows lack, their rows one after another.

    A row is set up by no more workers than it has batches; whoever finds no work in the rows that
    others draw sets up the next. A batch on which
    workers die is drawn sample by sample; a sample on which they die has failed.

    Args:
        pool: of workers.
        recipes: of the rows.
        asked: samples of every row.
        out: where the runs' folders are.
        record: what was asked for, see `RunStore`.
        manifest: the manifest's file.

    Returns:
        How many samples failed, and the folders of the runs that hold an image.

    Raises:
        InputError: a row cannot be set up, workers differ, or die before they draw.
        OSError: a store cannot be written.
    """
    waiting, queue = deque(recipes), deque()
    opening: list[Recipe] = []  # as often as a worker may still set it up
    stores: dict[str, RunStore] = {}

    def take() -> Task | None:
        if queue:
            return queue.popleft()
        if not opening and waiting:
            recipe = waiting.popleft()
            opening.extend([recipe] * min(pool.size, -(-len(asked) // recipe.profile.batch)))
        return Task(prepare, (opening.pop(),)) if opening else None

    def open_store(recipe: Recipe, spec: RunSpec) -> None:
        settings = recipe.profile.model_dump(mode="json")
        store = held.enter_context(RunStore(out, spec, record, settings, manifest=manifest))
        batches = pending_batches(asked, store, recipe.profile.batch)
        queue.extend(Task(draw, (recipe, spec.hash, batch)) for batch in batches)
        ledger.there(len(asked) - sum(map(len, batches)))
        stores[recipe.row] = store
        opening[:] = [each for each in opening if each is not recipe]

    with (
        ExitStack() as held,
        Ledger(len(recipes) * len(asked), ", ".join(recipe.row for recipe in recipes)) as ledger,
    ):
        for task, found in pool.run(take):
            recipe, *given = task.arguments
            if task.function is prepare:
                if isinstance(found, Lost):
                    raise InputError(f"{recipe.row} cannot be set up by a worker: {found.reason}.")
                if recipe.row not in stores:
                    open_store(recipe, found)
            elif isinstance(found, Lost) and len(given[1]) > 1:
                queue.extendleft(Task(draw, (recipe, given[0], [one])) for one in given[1][::-1])
            else:
                if isinstance(found, Lost):
                    found = [Drawn(failed_row(*given[1][0], found.reason), None)]
                for drawn in found:
                    ledger.add(stores[recipe.row], drawn)
        failed = sum(ledger.failed(store, len(asked)) for store in stores.values())
    return failed, [store.folder for store in stores.values() if store.done]


def judge_of(pool: Pool, name: str, sizes: Sizes) -> tuple[RemoteJudge, Spread]:
    """A judge on workers, and how batches of images are given to them.

    Raises:
        InputError: the judge cannot be loaded, or workers die with it.
    """
    tasks = [Task(identify, (name,))] * pool.size
    found = {_alive(name, each) for _, each in pool.run(_from(iter(tasks)))}
    if len(found) > 1:
        raise InputError(
            f"workers have other weights or code of the judge {judge_name(name)}: install the same."
        )

    def spread(batches):
        tasks = (Task(look, (name, sizes, batch)) for batch in batches)
        for _, found in pool.run(_from(tasks)):
            yield _alive(name, found)

    return found.pop(), spread


def _from(tasks: Iterator[Task]) -> Callable[[], Task | None]:
    return lambda: next(tasks, None)


def _alive(judge: str, found: Any) -> Any:
    if isinstance(found, Lost):
        raise InputError(f"the judge {judge} cannot be used by a worker: {found.reason}.")
    return found


class Workers(NamedTuple):
    """Ray's workers, see `Pool`."""

    number: int | None = None
    """As many as there are GPUs, or else cores for their threads, where it is None."""
    threads: int = 1
    """Cores of each, where it has no GPU."""
    address: str | None = None
    """Of a running cluster; None: this machine."""

    def check(self, profile: Profile) -> None:
        """See `Executor`: what a worker's machine has, this one need not have."""

    def run(self, experiment: Experiment) -> Outcome:
        """See `Executor`."""
        profile, data = experiment.profile, experiment.data
        gpus = {"cpu": False, "mps": False, "cuda": True, "gpu": True}
        shared = data.coco and data.coco.resolve(), data.manifest, experiment.masks
        given = parse_settings(experiment.settings, [row.row for row in experiment.rows])
        recipes = [
            Recipe(row.row, _absolute(method), profile, given[row.row], *shared)
            for method, row in zip(experiment.methods, experiment.rows, strict=True)
        ]
        asked = {"limit": experiment.limit, "samples": experiment.samples}
        known = gpus.get(profile.compute.requested)
        with Pool(self.number, self.threads, self.address, known) as pool:
            samples = samples_of(data.drawn, experiment.samples)
            failed, folders = draw_rows(pool, recipes, samples, experiment.out, asked, data.path)
            sizes = Sizes(profile.size, profile.score_size)
            for judge in experiment.judges:
                network, spread = judge_of(pool, _absolute(judge), sizes)
                for folder in folders:
                    one = judge_name(judge), network
                    score_images(folder, data.layouts, data.manifest, one, sizes, spread=spread)
        return Outcome(folders, failed)


def _absolute(target: str) -> str:
    """path/to/file.py:Class as a worker elsewhere on this machine finds it; else the name."""
    file, colon, kind = target.rpartition(":")
    return f"{Path(file).resolve()}:{kind}" if colon and file.endswith(".py") else target
