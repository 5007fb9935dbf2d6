import re
from pathlib import Path

from tcig.cli import main
from tcig.eval.results import read_result

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_method_of_the_readme_is_scored_beside_the_references(tmp_path, capsys, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("stripes.py").write_text(code)
    assert main(["check-method", "stripes.py:Stripes"]) == 0
    capsys.readouterr()
    methods = ["paste", "stripes.py:Stripes"]
    assert main(["run", "--methods", *methods, "--limit", "3", "--no-score"]) == 0
    folders = capsys.readouterr().out.split()
    for folder in folders:
        arguments = ["--layouts", "runs/layouts-mini.jsonl", "--judge", "colours"]
        assert main(["score", folder, *arguments]) == 0
    capsys.readouterr()
    assert main(["table", "runs"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"\| paste \(oracle\) +\| colours +\| +3 \| 1\.000 ± 0\.000", table)
    assert re.search(r"\| Stripes +\| colours +\| +3 \| 0\.0", table)


def test_the_commands_of_the_readme_exist():
    from tcig.cli import COMMANDS

    named = set(re.findall(r"^tcig ([\w-]+)", README, re.MULTILINE))
    assert named == set(COMMANDS)


def test_what_the_documentation_names_is_there():
    root = Path(__file__).parents[1]
    results = (root / "results" / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(((?!http|#)[^)]+)\)", README)
    written = [f"results/{name}" for name in re.findall(r"^\| `([\w./]+)`", results, re.MULTILINE)]
    assert len(linked) >= 2
    assert len(written) >= 4
    assert [name for name in linked + written if not (root / name).exists()] == []
    assert "<!--" not in README + results


def test_the_table_of_the_readme_is_the_committed_result():
    mini = ROOT / "results" / "mini"
    rows = read_result(mini / "result.json").rows
    shown = [row for row in rows if row.judged.judge == "miniature" and row.judged.ignore == "none"]
    figures = {row.row: row.figures for row in shown}
    lines = re.findall(r"^\| (.+?) \|", README.split("## Add your method")[0], re.MULTILINE)[1:]
    assert [name.removesuffix(" (oracle)") for name in lines] == list(figures)
    for line in README.split("## Add your method")[0].splitlines():
        cells = [cell.strip(" *") for cell in line.split("|")]
        name = cells[1].removesuffix(" (oracle)") if len(cells) > 8 else None
        if name in figures:
            iou, clip = figures[name]["iou_image"], figures[name]["clip_caption"]
            expected = f"{iou.mean:.3f} ± {iou.std:.3f} [{iou.low:.3f}, {iou.high:.3f}]"
            assert cells[2].replace("**", "") == expected
            assert cells[5] == f"{clip.mean:.3f} ± {clip.std:.3f}"
    table = (mini / "table.md").read_text(encoding="utf-8")
    ious = [each["iou_image"] for each in figures.values()]
    assert all(f"{iou.mean:.3f} ± {iou.std:.3f}" in table for iou in ious)
