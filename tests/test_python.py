"""What `import tcig` offers: the page's example, and its figures against the table's."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import tcig
from tcig.cli import main
from tcig.data.files import InputError

PAGE = Path(__file__).parents[1] / "tcig" / "README.md"


def test_the_example_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generate, read = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(generate, names)
    outcome = names["outcome"]
    assert [folder.name.partition("-")[0] for folder in outcome.folders] == ["paste", "empty"]
    assert outcome.failed == 0
    assert names["scores"] == outcome.folders[0] / "scores" / "miniature"
    written = {}
    for kind in ("json", "csv"):
        capsys.readouterr()
        assert main(["table", "runs", "--format", kind]) == 0
        written[kind] = capsys.readouterr().out
    Path("result.json").write_text(written["json"])
    exec(read, names)
    frame = names["frame"].set_index(["row", "judge", "ignore"])
    assert frame.loc[("paste", "colours", "none"), "iou_image"] == 1
    assert frame.loc[("empty", "colours", "none"), "iou_image"] == 0
    assert set(frame.loc["paste"].index.unique("judge")) == {"colours", "miniature"}
    table = pd.read_csv(io.StringIO(written["csv"])).set_index(["row", "judge", "ignore"])
    shared = [name for name in frame.select_dtypes("number") if name in table]
    assert {"n", "failed", "iou_image", "iou_region_std", "iou_dataset_low"} <= set(shared)
    pd.testing.assert_frame_equal(
        frame[shared].astype(float), table.loc[frame.index, shared].astype(float), atol=1e-5
    )


def test_a_mistake_is_an_error_that_can_be_caught(tmp_path):
    with pytest.raises(InputError, match="did you mean paste"):
        tcig.run_experiment(["pasta"], out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tcig.nothing  # noqa: B018


def test_importing_loads_nothing_until_a_function_is_used():
    code = (
        "import sys, tcig; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules);"
        "assert {'run_experiment', 'score_folder', 'read_result'} <= set(dir(tcig));"
        "tcig.read_result; assert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
