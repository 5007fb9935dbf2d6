"""The guard around plug-ins: what they change is put back, and no exit ends the process."""

import asyncio
import os
import signal
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from tcig.data.files import InputError
from tcig.models.plugins import (
    SETTINGS,
    ExitError,
    PluginError,
    StateWarning,
    guard,
    load_class,
    refusing,
    source_of,
)


def enter(context):
    """Enters a context and never leaves it."""
    entered.append(context)
    context.__enter__()


entered = []
MOVES = {
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's gradients": lambda: torch.set_grad_enabled(False),
    "torch's inference mode": lambda: enter(torch.inference_mode()),
    "torch's threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's denormals": lambda: torch.set_flush_denormal(True),
    "torch's determinism": lambda: torch.use_deterministic_algorithms(True),
    "torch's autocast on cpu": lambda: enter(torch.autocast("cpu", torch.bfloat16)),
    "precision of oneDNN's products": lambda: torch.set_float32_matmul_precision("medium"),
    "precision of CUDA's products": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "cuDNN's benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "torch's math attention": lambda: torch.backends.cuda.enable_math_sdp(False),
    "numpy's errors": lambda: np.seterr(all="raise"),
    "the working directory": lambda: os.chdir("/"),
    "the filters of warnings": lambda: warnings.simplefilter("ignore"),
    "PIL's largest image": lambda: setattr(Image, "MAX_IMAGE_PIXELS", None),
    "Ctrl-C": lambda: signal.signal(signal.SIGINT, lambda *_: None),
    "sys.stdout": lambda: setattr(sys, "stdout", None),
    "PIL's reading": lambda: setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", MOVES)
def test_what_a_plugin_changes_is_put_back_and_said(name, fails):
    before = {setting: read() for setting, (read, _) in SETTINGS.items()}

    def work():
        with guard("mine"):
            MOVES[name]()
            if fails:
                raise ZeroDivisionError

    expected = pytest.raises(ZeroDivisionError) if fails else nullcontext()
    with pytest.warns(StateWarning, match=f"mine changed .*{name}"), expected:
        work()
    assert {setting: read() for setting, (read, _) in SETTINGS.items()} == before


def test_a_folder_that_is_removed_is_left(tmp_path):
    before = Path.cwd()
    folder = tmp_path / "short"
    folder.mkdir()

    def work():
        with guard("mine"):
            os.chdir(folder)
            folder.rmdir()

    with pytest.warns(StateWarning, match="the working directory"):
        work()
    assert Path.cwd() == before


def test_a_plugin_that_leaves_all_as_it_is_causes_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", StateWarning)
        with guard("mine"):
            torch.manual_seed(0)


def leave(how):
    if how == "os._exit":
        os._exit(0)
    if how == "cancelled":
        raise asyncio.CancelledError
    raise SystemExit(how)


@pytest.mark.parametrize("how", [0, 1, None, "os._exit", "cancelled"])
def test_an_exit_is_an_exception(how):
    with pytest.raises(ExitError, match="tried to end the process"), guard("mine"):
        leave(how)


def test_processes_that_a_plugin_starts_may_end():
    with guard("mine"):
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_an_interrupt_is_none_of_the_plugins_errors():
    with pytest.raises(KeyboardInterrupt), refusing("mine", "failed"):
        raise KeyboardInterrupt


def test_an_error_is_a_sentence_with_its_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def work():\n    raise KeyError('a\\nb')\n")
    names = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    source = source_of(names["work"])
    with pytest.raises(PluginError) as caught, refusing("mine", "cannot work", source):
        names["work"]()
    assert str(caught.value) == "mine cannot work: KeyError: 'a\\nb' (line 2 of mine.py)."
    with pytest.raises(InputError, match="my own words"), refusing("mine", "cannot work"):
        raise InputError("my own words")


class Base:
    __abstractmethods__ = frozenset()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.exit(0)", "cannot be loaded: ExitError"),
        ("import os; os._exit(0)", "cannot be loaded: ExitError"),
        ("def broken(:", "cannot be loaded: SyntaxError"),
        ("1 / 0", r"cannot be loaded: ZeroDivisionError: .+ \(line 1 of mine\.py\)"),
        ("Mine = 3", "has no class Mine that is a"),
        ("x = (" * 500, "cannot be loaded"),
        ("\x00", "cannot be loaded"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named(tmp_path, text, said):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"mine\.py {said}") as caught:
        load_class(f"{path}:Mine", Base)
    assert "\n" not in str(caught.value)


def test_two_files_of_one_name_have_their_own_annotations(tmp_path):
    """Postponed annotations are looked up in the module of their class."""
    found = []
    for name in ("a", "b"):
        path = tmp_path / name / "mine.py"
        path.parent.mkdir()
        path.write_text(f"kind = '{name}'\nclass Mine:\n    __abstractmethods__ = ()\n")
        found.append(load_class(f"{path}:Mine", object)[0])
    assert [sys.modules[kind.__module__].kind for kind in found] == ["a", "b"]
