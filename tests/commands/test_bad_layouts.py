"""A whole run, scored and tabulated, in which some layouts cannot be drawn."""

import io
import json

import pandas as pd
import pytest

from tcig.data.filters import Filter
from tcig.data.layout import Counts, Header, write_manifest


@pytest.fixture
def manifest(tmp_path, box_layout):
    layouts = [
        box_layout(64, identity="good", cat=(4, 40, 4, 30), dog=(30, 60, 34, 60)),
        box_layout(64, identity="dot", cat=(4, 40, 4, 30), dog=(51, 52, 51, 52)),
        box_layout(64, identity="vehicle", cat=(4, 40, 4, 30), bus=(30, 60, 34, 60)),
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
