#!/usr/bin/env bash
# Lint and tests. Sets up an environment first where none is; arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/../.ci/environment.sh"
cd "$root"
ruff check .
ruff format --check .
python -m pytest "$@"
