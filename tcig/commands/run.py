"""`tcig run`: generates images with one or more methods, then scores them.

    tcig run --methods real paste empty
    tcig run --profile mini --methods real path/to/file.py:MyMethod --samples 2 --limit 24
    tcig run --methods si multidiffusion --set si.guidance=5 multidiffusion.bootstrapping=code
    tcig run --layouts layouts.jsonl --coco coco --methods real --no-score
    tcig run --methods tcig --masks scribble
    tcig run --methods si bld tcig --engine ray            # a worker for each core, or each GPU
    tcig run --methods si bld tcig --engine ray --address 10.0.0.1:6379
    tcig run --methods si bld tcig --shard 2/8             # 8 such jobs, then once without --shard

Each method's images are in OUT/METHOD-HASH; a stopped run resumes. Without --layouts the profile's
embedded data set is used, and its manifest written to OUT. `tcig check` says what keeps a method of
your own from being compared.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tcig.commands import parse
from tcig.data.files import InputError


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
    """Number of layouts, the first in the order of a hash of their ids."""
    out: Path = Path("runs")
    """Folder of the runs."""
    judge: tuple[str, ...] = ()
    """Judges that score, by name, or path/to/file.py:Class (default: the profile's)."""
    masks: str = "true"
    """Masks that methods see: true, eroded, dilated, shifted, polygon or scribble, maybe with
    an amount, as dilated:0.1. They are scored against the true ones."""
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
    """Who generates and judges: this process, or Ray's workers (pip install 'tcig[ray]')."""
    workers: int | None = None
    """Number of Ray workers (default: one per GPU, else one per `threads` CPU cores)."""
    threads: int = 1
    """CPU cores of each Ray worker, where it has no GPU."""
    address: str | None = None
    """Address of a running Ray cluster, as 10.0.0.1:6379, or auto (default: this machine alone)."""

    def __post_init__(self):
        if not self.methods:
            raise InputError("give --methods one or more names, or path/to/file.py:Class.")
        if self.judge and self.no_score:
            raise InputError("--judge scores, --no-score does not: leave one of them out.")
        ray = self.engine == "ray"
        if not ray and (self.workers, self.threads, self.address) != (None, 1, None):
            raise InputError("--workers, --threads and --address are of --engine ray: give it too.")
        if ray and self.shard:
            raise InputError("--shard and --engine ray both divide the work: give one of them.")


def main(argv: list[str]) -> int:
    """Runs `tcig run`; 1 if a sample failed, or a method from outside could not be set up."""
    options = parse(Options, argv, "run", __doc__)
    from tcig.data.files import Shard
    from tcig.profiles import load_profile
    from tcig.run.experiment import Serial, run_experiment
    from tcig.run.spec import choose_rows
    from tcig.run.workers import Workers

    if options.engine == "ray":
        executor = Workers(options.workers, options.threads, options.address)
    else:
        executor = Serial(Shard.parse(options.shard) if options.shard else None)
    if options.check:
        profile = load_profile(options.profile)
        executor.check(profile)
        choose_rows(profile, options.methods, options.set)
        return 0
    outcome = run_experiment(
        options.methods,
        options.profile,
        options.layouts,
        coco=options.coco,
        settings=options.set,
        samples=options.samples,
        limit=options.limit,
        masks=options.masks,
        judges=() if options.no_score else options.judge or None,
        out=options.out,
        executor=executor,
    )
    for folder in outcome.folders:
        print(folder)
    return 1 if outcome.failed else 0
