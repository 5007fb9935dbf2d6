"""A whole run, scored and tabulated, in which some layouts cannot be drawn."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from tcig.data.filters import Filter
from tcig.data.layout import Counts, Header, Layout, Region, write_manifest
from tcig.data.masks import encode

SIDE = 64


def layout(name, **boxes):
    regions = []
    for number, (label, (top, bottom, left, right)) in enumerate(boxes.items()):
        mask = np.zeros((SIDE, SIDE), bool)
        mask[top:bottom, left:right] = True
        regions.append(Region(annotation=number, label=label, mask=encode(mask)))
    caption = f"{' and '.join(boxes)} on a green field"
    return Layout(id=name, image="none.png", side=SIDE, caption=caption, regions=tuple(regions))


@pytest.fixture
def manifest(tmp_path):
    layouts = [
        layout("good", cat=(4, 40, 4, 30), dog=(30, 60, 34, 60)),
        layout("dot", cat=(4, 40, 4, 30), dog=(51, 52, 51, 52)),
        layout("vehicle", cat=(4, 40, 4, 30), bus=(30, 60, 34, 60)),
    ]
    path = tmp_path / "layouts.jsonl"
    n = len(layouts)
    counts = Counts(images=n, filtered=n, objects_cut=0, layouts_cut=0, layouts=n)
    write_manifest(path, Header(filter=Filter(), sources=(), counts=counts), layouts)
    return path


@pytest.mark.parametrize(
    ("row", "settings", "bad", "reason"),
    [
        ("multidiffusion", (), "dot", "layout dot: region 2 (dog) vanishes on the latent grid"),
        (
            "tcig",
            ("--set", "tcig.first.guides=mini:guide-animals"),
            "vehicle",
            "layout vehicle: no guide knows the class bus",
        ),
    ],
)
def test_a_bad_layout_costs_no_other(tcig, quick, tmp_path, manifest, row, settings, bad, reason):
    run = ("run", "--profile", quick, "--methods", row, "--layouts", manifest, "--out", tmp_path)
    status, printed = tcig(*run, *settings)
    assert status == 1, printed.err
    assert reason in printed.err
    assert "Traceback" not in printed.err
    (folder,) = tmp_path.glob(f"{row}-*")
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert {each["layout"] for each in rows if each["error"]} == {bad}
    good = {"good", "dot", "vehicle"} - {bad}
    assert {path.name for path in folder.glob("*.png")} == {f"{name}-0.png" for name in good}
    status, printed = tcig("table", folder, "--format", "csv")
    assert status == 0
    (found,) = pd.read_csv(io.StringIO(printed.out)).query("judge == 'colours'").to_dict("records")
    assert (found["n"], found["failed"]) == (2, 1)
