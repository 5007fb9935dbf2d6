"""Runs killed at named points and resumed end as if they had never been killed."""

import json
import time

import pytest
from toy import assert_whole

from tcig.data.errors import InputError
from tcig.run.spec import RunSpec
from tcig.run.store import RunStore

DYING = """
from tcig.run.store import RunStore

point, nth = "{point}", {nth}
times = 0


def due():
    global times
    times += 1
    return times == nth


replace, enter = Path.replace, RunStore.__enter__


def dying_replace(self, target):
    hit = point.endswith(target.suffix) and due()
    if hit and point.startswith("before"):
        os._exit(9)
    replace(self, target)
    if hit:
        os._exit(9)


class DyingRows:
    def __init__(self, rows):
        self.rows = rows

    def __getattr__(self, name):
        return getattr(self.rows, name)

    def write(self, data):
        if not due():
            return self.rows.write(data)
        self.rows.write(data[: {{"first": 1, "half": len(data) // 2, "unended": -1}}[point]])
        self.rows.flush()
        os._exit(9)


def dying_enter(self):
    enter(self)
    self._file = DyingRows(self._file)
    return self


if point.startswith(("before", "after")):
    Path.replace = dying_replace
else:
    RunStore.__enter__ = dying_enter
"""


def committed(run):
    """(layout, seed) of each whole row whose image is there."""
    pairs = set()
    for path in run.out.glob("Toy-*/rows.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            assert (path.parent / f"{row['layout']}-{row['sample']}.png").exists()
            pairs.add((row["layout"], str(row["seed"])))
    return pairs


@pytest.mark.parametrize(
    ("crashes", "count"),
    [
        (["before.json:1"], 0),
        (["before.png:5"], 4),
        (["after.png:5"], 4),
        (["first:5"], 4),
        (["half:5", "before.jsonl:1"], 4),
        (["unended:5", "after.jsonl:1"], 5),
    ],
    ids=str,
)
def test_killed_at(toy_run, unbroken, crashes, count):
    for crash in crashes:
        point, nth = crash.split(":")
        died = toy_run.finish(TOY_IMPORT=DYING.format(point=point, nth=nth))
        assert died == (9, "")
        assert len(committed(toy_run)) == count
    drafts = list(toy_run.out.glob("Toy-*/.*.part"))
    assert bool(drafts) == crashes[-1].startswith("before")
    before, kept = len(toy_run.calls()), committed(toy_run)
    assert toy_run.finish() == (0, "")
    drawn = [(layout, seed) for _, layout, seed in toy_run.calls()[before:]]
    assert sorted(drawn) == sorted(committed(toy_run) - kept)
    assert_whole(toy_run, unbroken)


def test_the_folder_is_free_again_after_a_kill(toy_run):
    toy_run.act("time.sleep(0.05)")
    process = toy_run.start()
    while not list(toy_run.out.glob("Toy-*/*.png")):
        assert process.poll() is None
        time.sleep(0.01)
    record = json.loads((toy_run.folder / "run.json").read_text())
    spec = RunSpec.model_validate(record["spec"])
    store = RunStore(toy_run.out, spec, record["asked"], record["profile"])
    with pytest.raises(InputError, match="is being written by another process"):
        store.__enter__()
    process.kill()
    with store:
        assert store.done
