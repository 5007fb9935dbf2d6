# Sourced by reproduce.sh, tests/run.sh: a virtual environment with the locked packages.
# Uses the active environment, else .venv; installs only what the lock or pyproject.toml changed.
# TCIG_TORCH_INDEX takes torch and torchvision from another index, as one of wheels without CUDA or
# for an older CUDA. Such wheels have versions as 2.14.1+cu126, which pip ranks above 2.14.1.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VIRTUAL_ENV:-$root/.venv}
if [ -z "${VIRTUAL_ENV:-}" ] && ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    command -v python3 >/dev/null || { echo "python3 (3.11 or later) is needed" >&2; exit 2; }
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "python3 is $(python3 --version): 3.11 or later is needed" >&2; exit 2; }
    echo "making the virtual environment $venv"
    python3 -m venv --clear "$venv" ||
        { echo "python3 -m venv failed: on Debian, install python3-venv" >&2; exit 2; }
fi
state=$(cat "$root/requirements.lock" "$root/pyproject.toml" | "$venv/bin/python" -c \
    'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest(), sys.argv[1])' "$root")
if [ "$(cat "$venv/.tcig-installed" 2>/dev/null)" != "$state" ]; then
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    if [ -n "${TCIG_TORCH_INDEX:-}" ]; then
        echo "installing the locked packages, torch from $TCIG_TORCH_INDEX"
        "${pip[@]}" --extra-index-url "$TCIG_TORCH_INDEX" \
            $(grep -E '^(torch|torchvision)==' "$root/requirements.lock")
        "${pip[@]}" -r <(grep -vE '^(torch|torchvision|triton|nvidia-|cuda-)' "$root/requirements.lock")
    else
        echo "installing the locked packages (torch with CUDA takes 6 GB on Linux)"
        "${pip[@]}" -r "$root/requirements.lock"
    fi
    "${pip[@]}" --no-deps --no-build-isolation --editable "$root"
    echo "$state" >"$venv/.tcig-installed"
fi
export PATH="$venv/bin:$PATH"
