"""An experiment: rows generated on the layouts of a manifest, then scored."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from tcig.data.build import build_layouts
from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.data.filters import Filter
from tcig.data.imperfect import TRUE, imperfect
from tcig.data.layout import Layout, hash_order, read_manifest, write_manifest
from tcig.data.shards import Shard
from tcig.eval.judges import check_judges, load_judge
from tcig.eval.score import Sizes, score_images
from tcig.methods.base import Method
from tcig.methods.registry import find_row
from tcig.models.kept import release
from tcig.models.plugins import PluginError
from tcig.models.weights import locate
from tcig.profiles import Profile, load_profile
from tcig.run.generate import generate
from tcig.run.spec import Chosen, RunSpec, check_captions, choose_rows, set_up
from tcig.run.store import RunStore


class Data(NamedTuple):
    """Layouts, and the photographs beside them."""

    manifest: str
    """Its SHA-256."""
    coco: Path | None
    """Folder of the photographs."""
    layouts: Sequence[Layout]
    """Of the manifest."""
    drawn: Sequence[Layout]
    """Those to generate, with their masks as the methods see them."""


class Experiment(NamedTuple):
    """Rows to generate, and how they are scored."""

    profile: Profile
    methods: Sequence[str]
    """As they were named."""
    settings: Sequence[str]
    """ROW.OPTION=VALUE."""
    rows: Sequence[Chosen]
    data: Data
    samples: int
    limit: int | None
    masks: str
    judges: Sequence[str]
    out: Path


class Outcome(NamedTuple):
    """What an experiment leaves."""

    folders: list[Path]
    """Of the runs that hold an image, in the order of the rows."""
    failed: int
    """Samples, and rows that could not be set up."""


class Executor(Protocol):
    """Where an experiment is generated and scored."""

    def check(self, profile: Profile) -> None:
        """Refuses a profile that cannot be run there, before anything else is done."""

    def run(self, experiment: Experiment) -> Outcome:
        """Generates what the runs lack, then scores them."""


def run_experiment(
    methods: Sequence[str],
    profile: str = "mini",
    layouts: Path | None = None,
    *,
    coco: Path | None = None,
    settings: Sequence[str] = (),
    samples: int = 1,
    limit: int | None = None,
    masks: str = TRUE,
    judges: Sequence[str] | None = None,
    out: Path = Path("runs"),
    executor: Executor | None = None,
) -> Outcome:
    """Generates rows on layouts and scores them; what is there is not done again.

    Args:
        methods: rows by name, or path/to/file.py:Class.
        profile: its name, or a TOML file.
        layouts: the manifest; None: of the data that the profile embeds.
        coco: folder of the photographs, for the row `real`.
        settings: options of rows, as ROW.OPTION=VALUE.
        samples: images of each layout, each with its own seed.
        limit: the first so many layouts in the order of a hash of their ids; None: all.
        masks: as the methods see them, see `tcig.data.imperfect`.
        judges: by name, or path/to/file.py:Class; None: the profile's; empty: nobody.
        out: the runs' folders are made in it.
        executor: None: this process, see `Serial`.

    Raises:
        InputError: an argument does not fit, or weights or photographs are missing; nothing was
            generated.
    """
    out, executor = Path(out), executor or Serial()
    settled = load_profile(profile)
    executor.check(settled)
    rows = check_methods(methods, settled, settings)
    out.mkdir(parents=True, exist_ok=True)
    manifest, coco = manifest_of(settled, layouts, coco, out)
    data = read_data(manifest, coco, limit)
    data = data._replace(drawn=imperfect(data.drawn, masks))
    check_rows(rows, data)
    judges = settled.judges if judges is None else tuple(judges)
    check_judges(judges)
    named = tuple(dict.fromkeys(methods)), tuple(settings)
    experiment = Experiment(settled, *named, rows, data, samples, limit, masks, judges, out)
    return executor.run(experiment)


def check_methods(
    methods: Sequence[str], profile: Profile, settings: Sequence[str]
) -> list[Chosen]:
    """The rows of an experiment, each once.

    Raises:
        InputError: see `choose_rows`; two are one row by name.
    """
    methods = list(dict.fromkeys(methods))
    rows = [find_row(method)[0] for method in methods]
    named = [method for method, row in zip(methods, rows, strict=True) if rows.count(row) > 1]
    if named:
        raise InputError(f"{' and '.join(named)} are one row by name: rename a class.")
    return choose_rows(profile, methods, settings)


def manifest_of(
    profile: Profile, layouts: Path | None, coco: Path | None, out: Path
) -> tuple[Path, Path | None]:
    """The manifest, and the COCO folder or None.

    Args:
        profile: whose embedded data is used where no manifest is given; its manifest is then
            written to `out`.
        layouts: the manifest given.
        coco: the COCO folder given.
        out: a folder.

    Raises:
        InputError: no manifest is given and the profile embeds no data.
    """
    if layouts:
        return layouts, coco
    if profile.coco is None:
        raise InputError(
            f"the profile {profile.name} embeds no data: make a manifest with `tcig layouts` and "
            "give it as --layouts FILE."
        )
    path = out / f"layouts-{profile.name}.jsonl"
    write_manifest(path, *build_layouts(profile.coco, Filter()))
    return path, coco or profile.coco


def read_data(
    manifest: Path, coco: Path | None, limit: int | None, without: Collection[str] = ()
) -> Data:
    """The layouts of a manifest but those with the ids `without`; the first `limit` are drawn.

    Raises:
        InputError: it is no manifest.
    """
    layouts = [each for each in read_manifest(manifest)[1] if each.id not in without]
    return Data(sha256(manifest), coco, layouts, hash_order(layouts)[:limit])


def check_rows(rows: Sequence[Chosen], data: Data) -> None:
    """Refuses what lacks before anything is generated.

    Raises:
        InputError: a row needs captions that layouts lack, or weights that cannot be had.
    """
    check_captions(rows, data.drawn)
    for source in dict.fromkeys(source for row in rows for source in row.sources):
        locate(source)


def generate_row(
    made: tuple[RunSpec, Method],
    profile: Profile,
    data: Data,
    out: Path,
    samples: int,
    limit: int | None,
    shard: Shard | None = None,
) -> tuple[RunStore, int]:
    """Generates what a run lacks, in this process.

    Args:
        made: the row, see `set_up`.
        profile: as said.
        data: on which.
        out: where the run's folder is.
        samples: of each layout.
        limit: of the layouts, as it was asked for.
        shard: only its part.

    Returns:
        The run's store, closed, and how many samples failed.
    """
    spec, method = made
    asked = {"limit": limit, "samples": samples}
    with RunStore(out, spec, asked, profile.model_dump(mode="json"), shard) as store:
        return store, generate(method, data.drawn, samples, profile.batch, store, shard)


class Serial(NamedTuple):
    """This process; one row's networks at a time are in memory."""

    shard: Shard | None = None
    """Generate only this part, and leave the scores to the call that puts the parts together."""

    def check(self, profile: Profile) -> None:
        """See `Executor`."""
        profile.compute.check_named()
        profile.compute.check_device()

    def run(self, experiment: Experiment) -> Outcome:
        """See `Executor`."""
        profile, data, rows = experiment.profile, experiment.data, experiment.rows
        asked = experiment.out, experiment.samples, experiment.limit, self.shard
        ready = {row.row: _made(row, experiment) for row in rows if not row.sources}  # quick
        folders, failed, before = [], 0, None
        for row in rows:
            if row.sources != before:
                release()
            before = row.sources
            made = ready.pop(row.row) if row.row in ready else _made(row, experiment)
            if made is None:
                failed += 1
                continue
            store, lost = generate_row(made, profile, data, *asked)
            failed += lost
            folders += [store.folder] if store.done else []
            del made
        release()
        sizes = Sizes(profile.size, profile.score_size)
        for judge in map(load_judge, () if self.shard else experiment.judges):
            for folder in folders:
                score_images(folder, data.layouts, data.manifest, judge, sizes)
        return Outcome(folders, failed)


def _made(row: Chosen, experiment: Experiment) -> tuple[RunSpec, Method] | None:
    """A row ready to generate; None of a method from outside that cannot be set up, which is said:
    other rows do not suffer from it."""
    profile, data = experiment.profile, experiment.data
    try:
        return set_up(row, profile, data.coco, data.manifest, experiment.masks, experiment.out)
    except PluginError as error:
        if row.code is None:
            raise
        print(f"tcig: error: {error}", file=sys.stderr)
        return None
