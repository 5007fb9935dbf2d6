#!/usr/bin/env bash
# Lint and tests. Sets up an environment first where none is; arguments go to pytest (as -n 8).
source "$(dirname "${BASH_SOURCE[0]}")/../.ci/environment.sh"
cd "$root"
ruff check .
ruff format --check .
# Two workers of one thread: the miniature models are too small to keep two threads busy.
export OMP_NUM_THREADS=1
# A worker that is done takes over tests of the other, as few files hold most of the slow ones.
python -m pytest -n 2 --dist worksteal "$@"
