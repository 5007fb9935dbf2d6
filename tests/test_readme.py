import re
from pathlib import Path

from tcig.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_method_of_the_readme_is_scored_beside_the_references(tmp_path, capsys, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("stripes.py").write_text(code)
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

    named = set(re.findall(r"^tcig (\w+)", README, re.MULTILINE))
    assert named == set(COMMANDS)
