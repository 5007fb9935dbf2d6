"""`tcig run`: generates images with one or more methods, then scores them.

    tcig run --methods real paste empty
    tcig run --profile mini --methods real path/to/file.py:MyMethod --samples 2 --limit 24
    tcig run --methods si multidiffusion --set si.guidance=5 multidiffusion.bootstrapping=code
    tcig run --layouts layouts.jsonl --coco coco --methods real --no-score
    tcig run --methods tcig --masks scribble

Each method's images lie in OUT/METHOD-HASH; a stopped run goes on where it was. Without --layouts
the profile's embedded data set is used, and its manifest written to OUT. `tcig check-method` says
what keeps a method of your own from being compared.
"""

from dataclasses import dataclass
from pathlib import Path

from tcig.commands.parsing import parse
from tcig.data.errors import InputError


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
    masks: str = "true"
    """As the methods see them: true, eroded, dilated, shifted, polygon or scribble, maybe with an
    amount, as dilated:0.1. They are scored against the true ones."""
    set: tuple[str, ...] = ()
    """Options of rows, as ROW.OPTION=VALUE: si.guidance=5 tcig.first.iterations=50."""
    no_score: bool = False
    """Only generate."""


def main(argv: list[str]) -> int:
    """Runs `tcig run`; 1 if a sample failed."""
    options = parse(Options, argv, "run", __doc__)
    if not options.methods:
        raise InputError("give --methods one or more names, or path/to/file.py:Class.")
    if options.samples < 1 or (options.limit is not None and options.limit < 1):
        raise InputError("--samples and --limit count from 1.")
    from tcig.commands.inputs import manifest_of
    from tcig.data.files import sha256
    from tcig.data.imperfect import imperfect
    from tcig.data.layout import hash_order, read_manifest
    from tcig.eval.judges import check_judge, load_judge
    from tcig.eval.score import Sizes, score_folder
    from tcig.methods.registry import find_row
    from tcig.methods.settings import parse_settings
    from tcig.models.kept import release
    from tcig.models.weights import locate
    from tcig.profiles import load_profile
    from tcig.run.generate import generate
    from tcig.run.spec import choose, set_up
    from tcig.run.store import RunStore

    profile = load_profile(options.profile)
    options.out.mkdir(parents=True, exist_ok=True)
    manifest, coco = manifest_of(profile, options.layouts, options.coco, options.out)
    _, layouts = read_manifest(manifest)
    chosen = imperfect(hash_order(layouts)[: options.limit], options.masks)
    name = sha256(manifest)
    methods = dict.fromkeys(options.methods)
    rows = {method: find_row(method)[0] for method in methods}
    if len(set(rows.values())) < len(rows):
        named = [method for method, row in rows.items() if list(rows.values()).count(row) > 1]
        raise InputError(f"{' and '.join(named)} are one row by name: rename a class.")
    given = parse_settings(options.set, list(rows.values()))
    picked = [choose(method, profile, given[row]) for method, row in rows.items()]
    ready = {}
    for each in picked:  # what is wrong or lacks is said before anything is drawn
        for source in each.sources:
            locate(source)
        if not each.sources:  # no weights of ours: set up at once
            ready[each.row] = set_up(each, profile, coco, name, options.masks)
    for judge in () if options.no_score else profile.judges:
        check_judge(judge)
    asked = {"limit": options.limit, "samples": options.samples}
    settings = profile.model_dump(mode="json")
    failed, folders, before = 0, [], None
    for each in picked:
        if each.sources != before:  # one row's networks at a time are in memory
            release()
        before = each.sources
        made = ready.pop(each.row, None)
        spec, method = made or set_up(each, profile, coco, name, options.masks)
        with RunStore(options.out, spec, asked, settings) as store:
            failed += generate(
                method, chosen, options.samples, profile.batch, store, profile.compute
            )
        if store.done:
            folders.append(store.folder)
            print(store.folder)
        del method
    release()
    sizes = Sizes(profile.size, profile.score_size)
    for judge in () if options.no_score else map(load_judge, profile.judges):
        for folder in folders:
            score_folder(folder, layouts, name, judge, sizes)
    return 1 if failed else 0
