"""`tcig run`: generates images with one or more methods, then scores them.

    tcig run --methods real paste empty
    tcig run --profile mini --methods real path/to/file.py:MyMethod --samples 2 --limit 24
    tcig run --methods si multidiffusion --set si.guidance=5 multidiffusion.bootstrapping=code
    tcig run --layouts layouts.jsonl --coco coco --methods real --no-score
    tcig run --methods tcig --masks scribble
    tcig run --methods si bld tcig --engine ray            # a worker for each core, or each GPU
    tcig run --methods si bld tcig --engine ray --address 10.0.0.1:6379
    tcig run --methods si bld tcig --shard 2/8             # 8 such jobs, then once without --shard

Each method's images lie in OUT/METHOD-HASH; a stopped run goes on where it was. Without --layouts
the profile's embedded data set is used, and its manifest written to OUT. `tcig check` says
what keeps a method of your own from being compared.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from tcig.commands.parsing import check_counts, parse
from tcig.data.errors import InputError

if TYPE_CHECKING:
    from tcig.data.layout import Layout
    from tcig.data.shards import Shard
    from tcig.methods.base import Method
    from tcig.profiles import Profile
    from tcig.run.spec import Chosen, RunSpec


@dataclass
class Options:
    """Arguments of `tcig run`."""

    methods: tuple[str, ...]
    """Methods by name, or path/to/file.py:Class."""
    profile: str = "mini"
    """Size, judges and batch: mini, paper, or a TOML file."""
    layouts: Path | None = None
    """Manifest, as `tcig layouts` writes it."""
    coco: Path | None = None
    """Folder of the photographs, for the row `real`."""
    samples: int = 1
    """Images per layout, each with its own seed."""
    limit: int | None = None
    """The first N layouts in the order of a hash of their ids."""
    out: Path = Path("runs")
    """Where the runs' folders are."""
    judge: tuple[str, ...] = ()
    """Who scores: judges by name, or path/to/file.py:Class (default: the profile's)."""
    masks: str = "true"
    """As the methods see them: true, eroded, dilated, shifted, polygon or scribble, maybe with an
    amount, as dilated:0.1. They are scored against the true ones."""
    set: tuple[str, ...] = ()
    """Options of rows, as ROW.OPTION=VALUE: si.guidance=5 tcig.first.iterations=50."""
    no_score: bool = False
    """Only generate."""
    check: bool = False
    """Only check the device and the options of the rows; nothing is fetched or generated."""
    shard: str | None = None
    """Generate part I/N, counted from 1, beside others that write to the same folders; the same
    command without it puts the parts together, generates what they lack, and scores."""
    engine: Literal["serial", "ray"] = "serial"
    """Who draws and judges: this process, or workers of Ray (pip install 'tcig[ray]')."""
    workers: int | None = None
    """Of Ray (default: as many as there are GPUs, or else cores for their threads)."""
    threads: int = 1
    """Cores of each of Ray's workers, where it has no GPU."""
    address: str | None = None
    """Of a running Ray cluster, as 10.0.0.1:6379, or auto (default: this machine alone)."""

    def __post_init__(self):
        if not self.methods:
            raise InputError("give --methods one or more names, or path/to/file.py:Class.")
        check_counts(
            samples=self.samples, limit=self.limit, workers=self.workers, threads=self.threads
        )
        if self.judge and self.no_score:
            raise InputError("--judge scores, --no-score does not: leave one of them out.")
        ray = self.engine == "ray"
        if not ray and (self.workers, self.threads, self.address) != (None, 1, None):
            raise InputError("--workers, --threads and --address are of --engine ray: give it too.")
        if ray and self.shard:
            raise InputError("--shard and --engine ray both divide the work: give one of them.")


class Work(NamedTuple):
    """What is drawn and scored, the same for all rows."""

    profile: "Profile"
    manifest: str
    """Its SHA-256."""
    coco: Path | None
    layouts: "Sequence[Layout]"
    """All of the manifest."""
    chosen: "Sequence[Layout]"
    """To draw, with their masks as the methods see them."""
    judges: tuple[str, ...]
    """Who scores; none: nobody."""


def main(argv: list[str]) -> int:
    """Runs `tcig run`; 1 if a sample failed, or a method from outside could not be set up."""
    options = parse(Options, argv, "run", __doc__)
    from tcig.commands.inputs import manifest_of
    from tcig.data.files import sha256
    from tcig.data.imperfect import imperfect
    from tcig.data.layout import hash_order, read_manifest
    from tcig.data.shards import Shard
    from tcig.eval.judges import check_judges
    from tcig.methods.registry import find_row
    from tcig.models.weights import locate
    from tcig.profiles import load_profile
    from tcig.run.spec import check_captions, choose_rows

    shard = Shard.parse(options.shard) if options.shard else None
    profile = load_profile(options.profile)
    if options.engine == "serial":
        profile.compute.check_named()
        profile.compute.check_device()
    methods = dict.fromkeys(options.methods)
    rows = {method: find_row(method)[0] for method in methods}
    if len(set(rows.values())) < len(rows):
        named = [method for method, row in rows.items() if list(rows.values()).count(row) > 1]
        raise InputError(f"{' and '.join(named)} are one row by name: rename a class.")
    picked = choose_rows(profile, list(methods), options.set)
    if options.check:
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    manifest, coco = manifest_of(profile, options.layouts, options.coco, options.out)
    _, layouts = read_manifest(manifest)
    chosen = imperfect(hash_order(layouts)[: options.limit], options.masks)
    check_captions(picked, chosen)
    judges = () if options.no_score else options.judge or profile.judges
    work = Work(profile, sha256(manifest), coco, layouts, chosen, judges)
    for each in picked:  # what is wrong or lacks is said before anything is drawn
        for source in each.sources:
            locate(source)
    check_judges(judges)
    if options.engine == "ray":
        return _on_workers(options, work, rows)
    return _here(options, work, picked, shard)


def _here(options: Options, work: Work, picked: "list[Chosen]", shard: "Shard | None") -> int:
    """Draws in this process, and scores unless this is a shard."""
    from tcig.eval.judges import load_judge
    from tcig.eval.score import Sizes, score_folder
    from tcig.models.kept import release
    from tcig.run.generate import generate
    from tcig.run.store import RunStore

    profile, masks, batch = work.profile, options.masks, work.profile.batch
    failed, ready = 0, {}
    for each in [each for each in picked if not each.sources]:  # quick to set up
        ready[each.row] = _set_up(each, work, masks)
    asked = {"limit": options.limit, "samples": options.samples}
    settings = profile.model_dump(mode="json")
    folders, before = [], None
    for each in picked:
        if each.sources != before:  # one row's networks at a time are in memory
            release()
        before = each.sources
        made = ready.pop(each.row) if each.row in ready else _set_up(each, work, masks)
        if made is None:
            failed += 1
            continue
        spec, method = made
        with RunStore(options.out, spec, asked, settings, shard) as store:
            drawn = work.chosen, options.samples, batch, store, shard
            failed += generate(method, *drawn)
        if store.done:
            folders.append(store.folder)
            print(store.folder)
        del method
    release()
    sizes = Sizes(profile.size, profile.score_size)
    for judge in map(load_judge, () if shard else work.judges):
        for folder in folders:
            score_folder(folder, work.layouts, work.manifest, judge, sizes)
    return 1 if failed else 0


def _set_up(chosen: "Chosen", work: Work, masks: str) -> "tuple[RunSpec, Method] | None":
    """A row ready to generate; None of a method from outside that cannot be set up, which is said:
    other rows do not suffer from it."""
    from tcig.models.plugins import PluginError
    from tcig.run.spec import set_up

    try:
        return set_up(chosen, work.profile, work.coco, work.manifest, masks)
    except PluginError as error:
        if chosen.code is None:
            raise
        print(f"tcig: error: {error}", file=sys.stderr)
        return None


def _on_workers(options: Options, work: Work, rows: dict[str, str]) -> int:
    """Draws and scores on Ray's workers; `rows` are the rows' names by method."""
    from tcig.eval.judges import judge_name
    from tcig.eval.score import Sizes, score_folder
    from tcig.methods.settings import parse_settings
    from tcig.run.engines import Pool
    from tcig.run.generate import samples_of
    from tcig.run.spread import Recipe, draw_rows, judge_of

    profile = work.profile
    gpus = {"cpu": False, "mps": False, "cuda": True, "gpu": True}.get(profile.compute.requested)
    coco = work.coco and work.coco.resolve()
    recipes = []
    given = parse_settings(options.set, list(rows.values()))
    for method, row in rows.items():
        shared = profile, given[row], coco, work.manifest, options.masks
        recipes.append(Recipe(row, _absolute(method), *shared))
    asked = {"limit": options.limit, "samples": options.samples}
    with Pool(options.workers, options.threads, options.address, gpus) as pool:
        samples = samples_of(work.chosen, options.samples)
        failed, folders = draw_rows(pool, recipes, samples, options.out, asked)
        for folder in folders:
            print(folder)
        sizes = Sizes(profile.size, profile.score_size)
        for judge in work.judges:
            network, spread = judge_of(pool, _absolute(judge), sizes)
            for folder in folders:
                images = folder, work.layouts, work.manifest
                score_folder(*images, (judge_name(judge), network), sizes, spread=spread)
    return 1 if failed else 0


def _absolute(target: str) -> str:
    """path/to/file.py:Class as a worker elsewhere on this machine finds it; else the name."""
    file, colon, kind = target.rpartition(":")
    return f"{Path(file).resolve()}:{kind}" if colon and file.endswith(".py") else target
