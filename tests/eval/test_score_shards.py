"""Parts of a scoring: judged once each, put together, and never taken for the whole."""

import json

import pytest
from counting import SIZES, Counting

from tcig.cli import main
from tcig.data.shards import Shard
from tcig.eval.judging import judged
from tcig.eval.stored import read_scores


def contents(place):
    """Files by name, rows sorted."""
    found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*.*")}
    found["rows.jsonl"] = sorted(found["rows.jsonl"].splitlines())
    return found


@pytest.fixture
def whole(paint, score):
    place, asked = score(paint("damaged", name="whole/mine"))
    assert asked == 6
    return contents(place)


def test_parts_put_together_are_the_whole(paint, score, whole, refused):
    folder = paint("damaged")
    for number in (2, 1):
        place, asked = score(folder, shard=Shard(number, 3))
        assert asked == 2
        assert score(folder, shard=Shard(number, 3))[1] == 0
    with refused(place, f"`tcig score /{folder.name}` or the run's command, without"):
        list(read_scores(folder))
    place, asked = score(folder)
    assert asked == 2, "what no part has judged"
    assert contents(place) == whole
    assert {path.name for path in place.iterdir() if path.is_file()} == {
        "rows.jsonl", "score.json", "sheet.png", ".lock"
    }  # fmt: skip


def test_a_part_of_only_these(paint, score, whole):
    folder = paint("damaged")
    (folder / "6-0.png").unlink()  # of another part, which has yet to draw it
    only = {("1", 0), ("c_3", 0)}
    place, asked = score(folder, shard=Shard(1, 2), only=only)
    assert asked == 2
    rows = [json.loads(line) for line in (place / "rows.1-of-2.jsonl").open()]
    assert {(row["layout"], row["sample"]) for row in rows} == only


@pytest.mark.parametrize("change", ["judge", "image", "torn"])
def test_what_changed_since_a_part_is_judged_again(paint, score, change):
    folder = paint("damaged")
    place, _ = score(folder, shard=Shard(1, 2))
    judge, lines = Counting(), place / "rows.1-of-2.jsonl"
    first = json.loads(lines.read_text().splitlines()[0])["layout"]
    if change == "judge":
        judge.identity = "another"
    if change == "image":
        (folder / f"{first}-0.png").write_bytes((folder / "44-0.png").read_bytes())
    if change == "torn":
        lines.write_bytes(lines.read_bytes()[:-5])
    again = {"judge": 6, "image": 4, "torn": 4}[change] - (first == "44" and change == "image")
    assert score(folder, judge)[1] == again


def test_batches_judged_elsewhere_in_any_order_give_the_same(paint, score, whole):
    folder = paint("damaged")

    class Elsewhere:
        identity, kind = "one", "built-in"

    def spread(batches):
        moved = [[each._replace(content=each.path.read_bytes()) for each in b] for b in batches]
        return iter([judged(Counting(), SIZES, batch[::-1]) for batch in moved[::-1]])

    place, _ = score(folder, Elsewhere(), spread=spread)
    assert contents(place) == whole


def test_the_command_scores_a_part(paint, manifest_file, capsys):
    folder = paint("truth")
    arguments = ["score", str(folder), "--layouts", str(manifest_file), "--judge", "colours"]
    profile = folder.parent / "tiny.toml"
    profile.write_text('size = 32\nscore_size = 32\njudges = ["colours"]\nbatch = 1\n')
    arguments += ["--profile", str(profile)]
    assert main([*arguments, "--shard", "1/2"]) == 0
    assert main(["table", str(folder)]) == 2
    assert "holds parts of a score" in capsys.readouterr().err
    assert main(arguments) == 0
    assert main(["table", str(folder)]) == 0
    assert main([*arguments, "--shard", "0/2"]) == 2
