"""Runs an experiment: rows are generated on the layouts of a manifest, then scored."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tcig.data.files import InputError, Shard, sha256
from tcig.data.filters import Filter
from tcig.data.layout import Layout, hash_order, imperfect
from tcig.data.manifest import build_layouts, read_manifest, write_manifest
from tcig.data.masks import TRUE
from tcig.data.records import RunSpec
from tcig.eval.images import Sizes
from tcig.eval.judges import Judge, check_judges, load_judge
from tcig.eval.score import RemoteJudge, Spread, score_images
from tcig.methods.base import Method
from tcig.models.devices import release
from tcig.models.plugins import PluginError
from tcig.models.weights import locate
from tcig.profiles import Profile, load_profile
from tcig.run.generate import RunStore, generate
from tcig.run.spec import Chosen, choose_rows, set_up

if TYPE_CHECKING:
    from tcig.run.workers import Workers


class Data(NamedTuple):
    """Layouts and the photographs that belong to them."""

    manifest: str
    """SHA-256 of the manifest."""
    coco: Path | None
    """Folder of the photographs."""
    layouts: Sequence[Layout]
    """All layouts of the manifest, but the excluded ones."""
    drawn: Sequence[Layout]
    """The layouts to generate, with their masks as the methods see them."""
    path: Path
    """The manifest's file."""


class Outcome(NamedTuple):
    """Result of an experiment."""

    folders: list[Path]
    """Runs that hold an image, in the order of the rows."""
    failed: int
    """Number of failed samples, and of rows that could not be set up."""


class Experiment(NamedTuple):
    """Rows to generate, and how they are scored."""

    profile: Profile
    methods: Sequence[str]
    """Rows by name, or path/to/file.py:Class."""
    settings: Sequence[str]
    """Options of rows, as ROW.OPTION=VALUE."""
    rows: Sequence[Chosen]
    data: Data
    samples: int
    limit: int | None
    masks: str
    judges: Sequence[str]
    out: Path

    def set_up(self, row: Chosen) -> tuple[RunSpec, Method]:
        """Returns the specification of a row's run, and its method, ready to generate."""
        return set_up(row, self.profile, self.data.coco, self.data.manifest, self.masks, self.out)

    def open_store(self, spec: RunSpec, shard: Shard | None = None) -> RunStore:
        """Returns the store of a row's run, or of a shard of it."""
        asked = {"limit": self.limit, "samples": self.samples}
        settings = self.profile.model_dump(mode="json")
        return RunStore(self.out, spec, asked, settings, shard, self.data.path)

    def score(
        self,
        folders: Sequence[Path],
        judge: tuple[str, Judge | RemoteJudge],
        spread: Spread | None = None,
    ) -> None:
        """Scores the folders of runs by a judge: its name and itself."""
        sizes = Sizes(self.profile.size, self.profile.score_size)
        for folder in folders:
            score_images(folder, self.data.layouts, self.data.manifest, judge, sizes, spread=spread)


class Serial(NamedTuple):
    """Generates and scores in this process, with the networks of one row in memory at a time."""

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
                experiment.score(folders, load_judge(judge))
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


def run_experiment(
    methods: Sequence[str],
    profile: str = "mini",
    layouts: Path | None = None,
    *,
    coco: Path | None = None,
    settings: Sequence[str] = (),
    samples: int = 1,
    limit: int | None = None,
    exclude: Collection[str] = (),
    masks: str = TRUE,
    judges: Sequence[str] | None = None,
    out: Path = Path("runs"),
    executor: "Serial | Workers | None" = None,
) -> Outcome:
    """Generates rows on layouts and scores them; finished samples are kept.

    Args:
        methods: rows by name, or path/to/file.py:Class.
        profile: the name of a profile, or a TOML file.
        layouts: the manifest; None: the layouts of the profile's embedded data.
        coco: folder of the photographs, for the row `real`.
        settings: options of rows, as ROW.OPTION=VALUE.
        samples: images per layout, each with its own seed.
        limit: number of layouts, the first in the order of a hash of their ids; None: all.
        exclude: ids of layouts to leave out.
        masks: masks as the methods see them, see `tcig.data.masks`.
        judges: judges by name, or path/to/file.py:Class; None: the profile's; empty: no scoring.
        out: folder in which the runs' folders are made.
        executor: a shard of `Serial`, or `tcig.run.workers.Workers`; None: this process.

    Raises:
        InputError: an argument does not fit, or weights or photographs are missing; nothing was
            generated.
    """
    out, executor = Path(out), executor or Serial()
    loaded = load_profile(profile)
    executor.check(loaded)
    methods = list(dict.fromkeys(methods))
    rows = choose_rows(loaded, methods, settings)
    out.mkdir(parents=True, exist_ok=True)
    manifest, coco = find_manifest(loaded, layouts, coco, out)
    data = read_data(manifest, coco, limit, exclude)
    data = data._replace(drawn=imperfect(data.drawn, masks))
    check_rows(rows, data)
    judges = loaded.judges if judges is None else tuple(judges)
    check_judges(judges)
    return executor.run(
        Experiment(loaded, methods, settings, rows, data, samples, limit, masks, judges, out)
    )


def find_manifest(
    profile: Profile, layouts: Path | None, coco: Path | None, out: Path
) -> tuple[Path, Path | None]:
    """Returns the manifest, and the COCO folder or None.

    Args:
        profile: its embedded data is used where no manifest is given.
        layouts: the manifest, if one is given.
        coco: the COCO folder, if one is given.
        out: folder in which the manifest of embedded data is written.

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
    manifest: Path, coco: Path | None, limit: int | None, exclude: Collection[str] = ()
) -> Data:
    """Reads the layouts of a manifest but the excluded ones; the first `limit` are generated.

    Raises:
        InputError: it is not a manifest, or no layout is left.
    """
    layouts = [layout for layout in read_manifest(manifest)[1] if layout.id not in exclude]
    if not layouts:
        raise InputError(f"{manifest}: no layouts are left.")
    return Data(sha256(manifest), coco, layouts, hash_order(layouts)[:limit], manifest)


def check_rows(rows: Sequence[Chosen], data: Data) -> None:
    """Refuses rows that cannot be generated.

    Raises:
        InputError: a row needs captions that layouts lack, or weights that are not available.
    """
    row = next((row.row for row in rows if row.kind.reads_captions), None)
    layout = next((layout.id for layout in data.drawn if not layout.caption.strip()), None)
    if row and layout:
        raise InputError(
            f"{row} needs captions, and layout {layout} has none: make the manifest again without "
            "--caption None."
        )
    for source in dict.fromkeys(source for row in rows for source in row.sources):
        locate(source)
