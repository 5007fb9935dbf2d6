"""The tables of a benchmark's results, as Markdown.

python tests/benchmarks/tables.py FILE.json...

FILE.json are of `pytest --benchmark-json`; each benchmark's `extra_info` is a row of its group's
table.
"""

import json
import sys
from itertools import groupby
from pathlib import Path


def cell(value: object) -> str:
    """Three significant digits of a float, all of anything else."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def main() -> None:
    """Prints the machine and the tables."""
    for path in map(Path, sys.argv[1:]):
        found = json.loads(path.read_text())
        cpu = found["machine_info"]["cpu"]
        python = found["machine_info"]["python_version"]
        print(f"{cpu['brand_raw']}, {cpu['count']} cores; Python {python}")
        for group, benchmarks in groupby(found["benchmarks"], lambda each: each["group"]):
            rows = [each["extra_info"] for each in benchmarks]
            print(f"\n### {group}\n\n| " + " | ".join(rows[0]) + " |")
            print("|" + "---|" * len(rows[0]))
            for row in rows:
                print("| " + " | ".join(map(cell, row.values())) + " |")


if __name__ == "__main__":
    main()
