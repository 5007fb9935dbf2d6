#!/usr/bin/env bash
# Lint and tests. Sets up an environment first where none is; arguments go to pytest (as -n 8).
source "$(dirname "${BASH_SOURCE[0]}")/../.ci/environment.sh"
cd "$root"
ruff check .
ruff format --check .
# Two workers of one thread: the miniature models are too small to keep two threads busy.
export OMP_NUM_THREADS=1
# In order of the files: sorted by their number of tests, few long ones would come last, on one worker.
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
