"""Cited figures are those that the papers print, typed here a second time."""

from tcig.eval.published import cited, published

TABLES = {
    "MultiDiffusion Table 2": {
        "real": "0.43 0.09",
        "si": "0.16 0.10",
        "bld": "0.17 0.11",
        "multidiffusion-no-bootstrap": "0.18 0.10",
        "multidiffusion": "0.26 0.12",
    },
    "TCIG Table 1": {
        "si": "0.16 0.10",
        "bld": "0.17 0.11",
        "multidiffusion": "0.26 0.12",
        "tcig": "0.30 0.26",
    },
}
NEAR = {
    ("no mask", "mIoU %"): "11.7",
    ("MultiDiffusion", "mIoU %"): "24.8",
    ("MultiDiffusion", "FID"): "22.9",
    ("SpaText", "mIoU %"): "23.8",
    ("Paint-with-Words", "mIoU %"): "23.8",
    ("T2I-Adapter", "mIoU %"): "31.6",
    ("SDM", "mIoU %"): "29.3",
    ("OASIS", "mIoU %"): "41.4",
    ("OASIS", "FID"): "46.8",
    ("InstanceDiffusion", "AP %"): "27.1",
    ("InstanceDiffusion", "AP50 %"): "50.0",
    ("InstanceDiffusion", "IoU %"): "59.3 to 64.5",
    ("best before InstanceDiffusion", "IoU %"): "33.9 to 39.1",
    ("real images", "mIoU %"): "42.61",
}


def test_the_two_tables():
    found = {}
    for figure in cited():
        rows = found.setdefault(f"{figure.paper} {figure.table}", {})
        assert figure.row not in rows
        rows[figure.row] = f"{figure.mean} {figure.std}"
        assert figure.status == "verified"
        assert figure.metric == "IoU"
    assert found == TABLES
    copied = {each.row for each in cited() if "copied from MultiDiffusion" in each.note}
    assert copied == {"si", "bld", "multidiffusion"}
    assert {each.judge for each in cited()} == {"Mask2Former", "not stated"}


def test_figures_of_other_protocols():
    others = [each for each in published() if each.group == "near"]
    assert {(each.row, each.metric): each.mean for each in others} == NEAR
    assert len(others) == len(NEAR)
    assert {each.status for each in others if "InstanceDiffusion" in each.row} == {
        "secondary",
        "derived",
    }
