"""`tcig figures`: pictures of a finished run, after the papers' own figures.

    tcig figures runs --out figures
    tcig figures runs --layouts layouts.jsonl --profile paper --count 8 --out figures

FOLDER holds runs, as `tcig run` leaves them. Written are `systems.png` (the systems side by side
under the same masks, methods from outside too), `samples.png` (TCIG's images under their masks),
and, drawn anew with the profile's options, `stages.png` (two starts of stage 1, two outputs of
stage 2 for each) and `course.png` (stage 1 of `tcig-robust` over its iterations, without the random
views of its guide and with them).
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tyro

from tcig.commands import parse
from tcig.data.files import InputError, sha256
from tcig.data.layout import Layout, hash_order, seed_of
from tcig.data.manifest import read_manifest
from tcig.data.masks import resize_nearest

SYSTEMS = (
    "real",
    "text-only",
    "si",
    "bld",
    "multidiffusion",
    "t2i-adapter",
    "direct-guidance",
    "direct-guidance-robust",
    "tcig-stage1",
    "tcig-robust-stage1",
    "tcig",
    "tcig-robust",
)
"""Columns of `systems.png`, where they were run; methods from outside follow."""
FRAMES = 6
"""Images of stage 1 in `course.png`."""


@dataclass
class Options:
    """Arguments of `tcig figures`."""

    folder: tyro.conf.Positional[Path]
    """Folder of runs."""
    out: Path = Path("figures")
    """Folder to write."""
    profile: str = "mini"
    """Profile of the runs."""
    layouts: Path | None = None
    """Manifest of the runs, where it is not the embedded data's."""
    count: int = 6
    """Layouts shown, the first in the order of a hash of their ids."""


def main(argv: list[str]) -> int:
    """Runs `tcig figures`."""
    options = parse(Options, argv, "figures", __doc__)
    from tcig.eval.pictures import samples_figure, systems_figure
    from tcig.methods.registry import ROWS
    from tcig.profiles import load_profile
    from tcig.run.experiment import find_manifest
    from tcig.run.generate import find_runs, image_of
    from tcig.run.spec import prepare

    profile = load_profile(options.profile)
    profile.compute.check_named()
    if not options.folder.is_dir():
        raise InputError(f"{options.folder} is no folder of runs: make one with `tcig run`.")
    options.out.mkdir(parents=True, exist_ok=True)
    manifest, coco = find_manifest(profile, options.layouts, None, options.folder)
    layouts = hash_order(read_manifest(manifest)[1])
    runs = find_runs(options.folder, manifest)
    shown = [row for row in SYSTEMS if row in runs] + [row for row in runs if row not in ROWS]
    if not shown:
        raise InputError(f"{options.folder} has no run of {', '.join(SYSTEMS)} on these layouts.")
    complete = (each for each in layouts if all(image_of(runs[row], each) for row in shown))
    common = list(islice(complete, 3 * options.count))
    rows = common[: options.count]
    if not rows:
        raise InputError(f"the runs of {', '.join(shown)} have no layout in common.")
    columns = {row: [image_of(runs[row], layout) for layout in rows] for row in shown}
    systems_figure(options.out / "systems.png", rows, columns)
    if "tcig" in runs:
        samples = [image_of(runs["tcig"], layout) for layout in common]
        samples_figure(options.out / "samples.png", common, samples)
    _, method = prepare("tcig", profile, coco, sha256(manifest))
    _stages(options.out / "stages.png", method, rows[:3])
    _course(options.out / "course.png", profile, rows[0])
    print(options.out)
    return 0


def _stages(path: Path, method, layouts: list[Layout]) -> None:
    """Draws samples 0 and 1 of stage 1, each refined twice."""
    from tcig.eval.pictures import stages_figure
    from tcig.methods.base import Progress
    from tcig.run.generate import ProgressTracker

    pairs = [(layout, sample) for layout in layouts for sample in (0, 1)]
    drawn = [layout for layout, _ in pairs]
    seeds = [seed_of(layout.id, sample) for layout, sample in pairs]
    others = [seed_of(layout.id, sample + 2) for layout, sample in pairs]
    steps = method.options.first.iterations + 2 * method.options.stage2_steps
    with ProgressTracker(len(pairs), path.name) as tracker:
        progress = Progress(lambda event, done: tracker.advance(done * len(pairs)), steps)
        first = method.place(drawn, seeds, progress=progress)
        once, twice = (method.refine(drawn, first, each, progress) for each in (seeds, others))
    outputs = list(zip(once, twice, strict=True))
    starts = range(0, len(pairs), 2)
    stages_figure(path, layouts, *([x[n : n + 2] for n in starts] for x in (first, outputs)))


def _course(path: Path, profile, layout: Layout) -> None:
    """Draws stage 1 of one layout over its iterations, without and with views of its guide."""
    from tcig.eval.iou import Samples, confusion, image_iou
    from tcig.eval.judges import load_judge
    from tcig.eval.pictures import course_figure
    from tcig.methods.base import Progress
    from tcig.models.diffusion import to_pil
    from tcig.run.generate import ProgressTracker
    from tcig.run.spec import prepare

    def observe(method) -> tuple[dict, dict]:
        """Returns images by iteration, and by name the losses and the guide's IoU."""
        total = method.options.first.iterations
        wanted = {round(total * (n / (FRAMES - 1)) ** 2) for n in range(FRAMES)}
        frames, curves = {}, {}

        def watch(event, iteration, **values):
            if event == "guide":
                curves.setdefault("IoU, by the guide", {})[iteration] = values["iou"][0].item()
                return
            for term, loss in values["losses"].items():
                curves.setdefault(f"{term} loss", {})[iteration] = loss[0].item()
            if iteration in wanted:
                frames[iteration] = to_pil(values["images"].mul(255))[0]

        with ProgressTracker(1, path.name) as tracker:
            progress = Progress(lambda event, done: tracker.advance(done), total)
            method.place([layout], [seed_of(layout.id, 0)], watch, progress)
        return frames, curves

    name, judge = load_judge(profile.judges[0])
    truth, courses = layout.class_map(profile.score_size), {}
    for title, settings in (
        ("the guide sees the image", {"first.views.count": 0}),
        ("the guide sees random views", {}),
    ):
        frames, curves = observe(prepare("tcig-robust-stage1", profile, None, "", settings)[1])
        ious = curves[f"IoU, by the judge {name}"] = {}
        for iteration, seen in zip(frames, judge.segment(list(frames.values())), strict=True):
            counts = confusion(truth, resize_nearest(seen.labels, profile.score_size))
            ious[iteration] = float(image_iou(Samples.of([counts], [layout.classes]))[0])
        courses[title] = frames, curves
    course_figure(path, layout, courses)
