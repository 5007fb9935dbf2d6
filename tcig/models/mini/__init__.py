"""The miniature models: their architectures, the scripts that trained them, their weights."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
