"""Methods and judges from outside: their files are loaded and hashed, their calls are guarded."""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tcig.data.files import InputError, describe, sha256
from tcig.models.process import SETTINGS

T = TypeVar("T")


class ExitError(RuntimeError):
    """A plug-in tried to end the process."""


class PluginError(InputError):
    """What a plug-in's code raised or declares, in one sentence."""


class StateWarning(UserWarning):
    """A plug-in changed what all code of the process shares."""


@contextmanager
def guard(name: str) -> Iterator[None]:
    """Guards a call of a plug-in's code.

    Settings of the process that the code changes are put back, with a warning that has `name`.

    Raises:
        ExitError: the code tried to end the process.
    """
    before = {setting: read() for setting, (read, _) in SETTINGS.items()}
    leave, process_id = os._exit, os.getpid()

    def refuse(status: int) -> None:
        if os.getpid() != process_id:  # a process that it started itself
            leave(status)
        raise SystemExit(status)

    os._exit = refuse
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        what = f"it tried to end the process ({type(error).__name__}: {error})"
        raise ExitError(what).with_traceback(error.__traceback__) from None
    finally:
        os._exit = leave
        changed = []
        for setting, (read, write) in SETTINGS.items():
            if read() != before[setting]:
                write(before[setting])
                changed.append(setting)
        if changed:
            text = f"{name} changed {', '.join(changed)} for all code; tcig put that back."
            warnings.warn(text, StateWarning, stacklevel=2)


@contextmanager
def refusing(name: str, what: str, source: str | Path = "") -> Iterator[None]:
    """Guards a call as `guard` does, and turns what the code raises into one sentence.

    Args:
        name: the plug-in.
        what: the failure, as in "cannot be loaded".
        source: its file; the sentence names the line.

    Raises:
        PluginError: the code raised something.
        InputError: the code raised that itself.
    """
    try:
        with guard(name):
            yield
    except InputError:
        raise
    except Exception as error:
        raise PluginError(f"{name} {what}: {describe(error, source)}.") from error


def source_of(function: Callable) -> str:
    """Returns the file of a function, whatever decorates it; "" if it is not written in Python."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_filename if code else ""


def class_in_file(target: str) -> str | None:
    """Returns the class of `path/to/file.py:Class`, or None for another form.

    Raises:
        InputError: a file without a class.
    """
    if target.removesuffix(":").endswith(".py"):
        raise InputError(f"{target} names no class: give it as {target.removesuffix(':')}:Class.")
    place, _, attribute = target.rpartition(":")
    return attribute if place.endswith(".py") else None


def load_class(target: str, *bases: type[T]) -> tuple[type[T], str]:
    """Loads a class from outside; returns it and the SHA-256 of its code.

    A file may import modules of its folder; the hash then covers them too. Of an installed package
    it covers the class's own file.

    Args:
        target: `path/to/file.py:Class` or `module:Class`.
        bases: the class must be a subclass of one of them.

    Raises:
        InputError: a missing file or class, another kind of class, or an import in a folder that
            another module of that name hides.
    """
    place, _, attribute = target.rpartition(":")
    if not place.endswith(".py"):
        kind = _load(lambda: importlib.import_module(place), place, attribute, bases)
        return kind, sha256(Path(inspect.getsourcefile(kind)))
    path = Path(place).absolute()
    if not path.is_file():
        what = " or ".join(base.__name__.lower() for base in bases)
        raise InputError(f"no file {place} to take the {what} {attribute} from.")
    if (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.append(folder)
    helpers = _imported_files(path)
    _check_found(path, helpers)
    kind = _load(lambda: _execute(path), place, attribute, bases)
    if not helpers:
        return kind, sha256(path)
    hashes = "".join(sha256(file) for file in (path, *helpers.values()))
    return kind, hashlib.sha256(hashes.encode()).hexdigest()


def _imported_files(path: Path) -> dict[str, Path]:
    """Modules of its own folder that a file imports, directly or not: name to file, sorted.

    The standard library's modulefinder stops at folders without `__init__.py`.
    """
    folder = path.parent.resolve()
    files: dict[str, Path] = {}
    waiting = [path.resolve()]
    while waiting:
        for name in _imported_names(waiting.pop(), folder):
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                module, place = ".".join(parts[:count]), folder.joinpath(*parts[:count])
                choices = place / "__init__.py", place.with_suffix(".py")
                file = next((choice for choice in choices if choice.is_file()), None)
                if file and module not in files and parts[0] != "tcig":
                    files[module] = file
                    waiting.append(file)
    return dict(sorted(files.items()))


def _imported_names(file: Path, folder: Path) -> Iterator[str]:
    """Dotted names that a file imports; what is taken from a module may be one itself."""
    try:
        tree = ast.parse(file.read_bytes())
    except Exception:  # loading it says what is wrong
        return
    package = file.parent.relative_to(folder).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = [node.module] if node.module else []
            yield from (".".join((*above, *module, alias.name)) for alias in node.names)


def _check_found(path: Path, helpers: dict[str, Path]) -> None:
    """Refuses a file of the folder that an import will not find, because another hides it."""
    for module, helper in helpers.items():
        if "." in module:  # to find it would run its package
            continue
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):  # loading it says what is wrong
            continue
        if spec and spec.origin and Path(spec.origin).resolve() != helper:
            raise InputError(
                f"{path} imports {module}, which would be {spec.origin} and not {helper}: rename "
                "the latter."
            )


def _execute(path: Path):
    name = f"tcig_plugin_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where postponed annotations are looked up
    spec.loader.exec_module(module)
    return module


def _load(load: Callable, place: str, attribute: str, bases: tuple[type[T], ...]) -> type[T]:
    """Loads a module, and finds a class of it that is complete."""
    try:
        with refusing(place, "cannot be loaded", place):
            module = load()
    except PluginError as error:  # a check of it has nothing to try
        raise InputError(str(error)) from error

    def fits(kind: Any) -> bool:
        return isinstance(kind, type) and issubclass(kind, bases)

    found = getattr(module, attribute, None)
    if not fits(found):
        kinds = {name: kind for name, kind in vars(module).items() if fits(kind)}
        complete = [name for name, kind in kinds.items() if not inspect.isabstract(kind)]
        hint = f"; there are {', '.join(complete)}" if complete else ""
        expected = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in bases)
        raise InputError(f"{place} has no class {attribute} that is a {expected}{hint}.")
    if missing := found.__abstractmethods__:
        raise InputError(f"{place}: {attribute} lacks {', '.join(sorted(missing))}.")
    return found
