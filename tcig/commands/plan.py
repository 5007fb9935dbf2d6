"""`tcig plan`: what a run will cost, before it starts.

    tcig plan --profile paper --layouts layouts.jsonl
    tcig plan --profile paper --layouts layouts.jsonl --methods si tcig --samples 4 --limit 100

Counts images, evaluations of the UNet, optimisation steps, downloads and disk, and estimates hours
from a probe on this device (meant to be half a minute on a GPU, longer on a processor), with random
weights: nothing is fetched. Hours leave out what lies between the networks, GLIGEN's gates and
T2I-Adapter's one pass an image; a first batch, compiling and loading come on top.
"""

from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from tcig.commands.parsing import check_counts, parse

PNG = 1.7
"""Bytes a pixel of a photograph as PNG; assumed."""


@dataclass
class Options:
    """Arguments of `tcig plan`."""

    profile: str = "paper"
    """Size, judges, options."""
    layouts: Path | None = None
    """Manifest, as `tcig layouts` writes it."""
    methods: tuple[str, ...] = ()
    """Rows (default: those of the profile)."""
    set: tuple[str, ...] = ()
    """Options of rows, as ROW.OPTION=VALUE."""
    samples: int = 1
    """Images per layout."""
    limit: int | None = None
    """The first N layouts in the order of a hash of their ids."""
    no_probe: bool = False
    """Count only."""


def main(argv: list[str]) -> int:
    """Runs `tcig plan`."""
    options = parse(Options, argv, "plan", __doc__)
    check_counts(samples=options.samples, limit=options.limit)
    from tempfile import TemporaryDirectory

    from tcig.commands.inputs import manifest_of
    from tcig.data.layout import hash_order, read_manifest
    from tcig.methods.base import Cost
    from tcig.methods.settings import parse_settings
    from tcig.models.devices import name_of, set_tf32
    from tcig.profiles import load_profile
    from tcig.run.spec import choose_rows

    profile = load_profile(options.profile)
    profile.compute.check_named()
    with TemporaryDirectory() as folder:
        manifest, _ = manifest_of(profile, options.layouts, None, Path(folder))
        layouts = hash_order(read_manifest(manifest)[1])[: options.limit]
    given = parse_settings(options.set, list(options.methods or profile.rows))
    chosen = choose_rows(profile, options.methods, given)
    images = len(layouts) * options.samples
    lines, costs = [], []
    for each in chosen:
        cost = Cost(*(count * options.samples for count in each.cost(layouts)))
        costs.append(cost)
        counts = {"UNet evaluations": cost.unet, "steps": cost.iterations}
        lines.append({"row": each.row, "images": images, **counts})
    total = images * len(chosen)
    print(f"{profile.name} on {name_of(profile.compute)}, {profile.compute.arithmetic}")
    print(f"{len(layouts)} layouts, {options.samples} samples each, {total} images\n")
    judging = {}
    if not options.no_probe:
        set_tf32(profile.compute.tf32)
        for each, cost, line in zip(chosen, costs, lines, strict=True):
            line["hours"] = _hours(each, cost, profile, images)
        from tcig.run.probe import probe_judge

        for judge in profile.judges:
            judging[judge] = probe_judge(judge, profile.size, profile.compute)
    print(tabulate(lines, headers="keys", floatfmt=".2f", missingval="unknown"))
    if judging:
        each = ", ".join(f"{judge} {_duration(s * total)}" for judge, s in judging.items())
        seconds = 3600 * sum(line["hours"] or 0 for line in lines) + sum(judging.values()) * total
        print(f"\njudging: {each}")
        unknown = [line["row"] for line in lines if line["hours"] is None]
        without = f", without {', '.join(unknown)}" if unknown else ""
        print(f"estimated in all{without}: {_duration(seconds)}, by a probe of random weights here")
    _space(chosen, profile, total)
    return 0


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _hours(each, cost, profile, images: int) -> float | None:
    """Of a row's networks; None where an architecture is not known here."""
    from tcig.models.kept import release
    from tcig.run.probe import probe_control, probe_diffusion, probe_guides, probe_iteration

    seconds, options, size = 0.0, each.options, profile.size
    guided = 0  # steps whose every pass is differentiated
    if hasattr(options, "first"):
        if cost.iterations:
            seconds += cost.iterations * probe_iteration(options.first, size, profile.compute)
    else:
        guided = cost.iterations
    source = getattr(options, "weights", None)
    if hasattr(options, "second") and cost.unet:
        source, size = options.second.pipeline, options.second.size or size
    parts = []
    if source:
        found = probe_diffusion(source, size, profile.compute)
        passes = 2 if guided else 1  # back through frozen weights takes as long as forward
        parts.append(found and passes * cost.unet * found.unet + images * found.decode)
        if found and guided:
            guides = probe_guides(options.guides, profile.compute)
            parts.append(guided * (passes * found.decode + guides))
    if cost.control:
        found = probe_control(options.control, size, profile.compute)
        parts.append(found and cost.control * found)
    release()
    return None if None in parts else (seconds + sum(parts)) / 3600


def _space(chosen: list, profile, total: int) -> None:
    """Downloads and disk."""
    from tcig.models.catalogue import entry_of
    from tcig.models.store import present, store
    from tcig.run.needs import needs

    names = needs(profile, chosen, quality=False)
    lacking = [name for name in names if not present(name)]
    size = sum(entry_of(name).size or 0 for name in lacking)
    print(f"\ndownloads: {size / 1e9:.1f} GB of weights to {store()} ({len(lacking)} models)")
    disk = total * profile.size**2 * PNG / 1e9
    print(f"disk: about {disk:.2f} GB of images, beside the weights")
