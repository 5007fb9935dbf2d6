"""Records that are read back: what does not fit the schema is left out, all else stays as it is."""

import json

import pytest

from tcig.data.records import SAMPLE_RECORD, read_records

GOOD = {"layout": "55", "sample": 0, "error": None, "seconds": 1.5, "note": {"kept": [1]}}
BAD = [
    {"layout": 55},
    {"layout": "../55"},
    {"layout": None},
    {"layout": ""},
    {"sample": "0"},
    {"sample": -1},
    {"sample": 1.5},
    {"sample": True},
    {"error": 3},
    {"seconds": "fast"},
    {"seconds": float("nan")},
    {"versions": []},
    {"peak_mib": "much"},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_a_line_of_another_shape_is_left_out(tmp_path, change):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | change) + "\n")
    assert read_records(path, SAMPLE_RECORD) == [GOOD]


@pytest.mark.parametrize("line", [b"[]", b"3", b"null", b"{", b"\x00" * 40, b"[" * 99_999, b"\xff"])
def test_a_torn_line_is_left_out(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b"\n" + json.dumps(GOOD).encode() + b"\n" + line)
    assert read_records(path, SAMPLE_RECORD) == [GOOD]


def test_fields_keep_their_order(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    (record,) = read_records(path, SAMPLE_RECORD)
    assert list(record) == list(GOOD)
    assert read_records(tmp_path / "none.jsonl", SAMPLE_RECORD) == []
