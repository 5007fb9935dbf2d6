"""Benchmark and reproduction harness for mask-controlled text-to-image generation on COCO.

The functions named here are the commands `run` and `score`, and the reader of `result.json`.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "run_experiment": "tcig.run.experiment",
    "score_folder": "tcig.eval.score",
    "read_result": "tcig.eval.results",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tcig' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
