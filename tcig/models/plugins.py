"""Classes from outside, methods and judges: loaded, and called under guard."""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tcig.data.files import InputError, describe, sha256
from tcig.models import process

T = TypeVar("T")


class ExitError(RuntimeError):
    """A plug-in tried to end the process."""


class PluginError(InputError):
    """What a plug-in's code raised or declares, in one sentence."""


class StateWarning(UserWarning):
    """A plug-in changed what all code of the process shares."""


@contextmanager
def guard(name: str) -> Iterator[None]:
    """Around every call of a plug-in's code.

    Settings of the process that it changed are put back, with a warning. What would end the process
    is an exception.

    Args:
        name: of the plug-in.

    Raises:
        ExitError: it tried to end the process.
        Exception: what it raised.
    """
    before, leave, process_id = process.save(), os._exit, os.getpid()

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
        if moved := process.restore(before):
            text = f"{name} changed {', '.join(moved)} for all code; tcig put that back."
            warnings.warn(text, StateWarning, stacklevel=2)


@contextmanager
def refusing(name: str, what: str, source: str | Path = "") -> Iterator[None]:
    """As `guard`; whatever the code raises is one sentence.

    Args:
        name: of the plug-in.
        what: it could not do, as in "cannot be loaded".
        source: its file, of which the line is named.

    Raises:
        PluginError: it raised something.
        InputError: it raised that itself.
    """
    try:
        with guard(name):
            yield
    except InputError:
        raise
    except Exception as error:
        raise PluginError(f"{name} {what}: {describe(error, source)}.") from error


def class_in_file(target: str) -> str | None:
    """The class of `path/to/file.py:Class`; None of what names no file.

    Raises:
        InputError: a file without a class.
    """
    if target.removesuffix(":").endswith(".py"):
        raise InputError(f"{target} names no class: give it as {target.removesuffix(':')}:Class.")
    place, _, attribute = target.rpartition(":")
    return attribute if place.endswith(".py") else None


def load_class(target: str, *bases: type[T]) -> tuple[type[T], str]:
    """A class from outside, and the SHA-256 of its code.

    A file may import what lies in its folder: then all of these count, as they stand, one after
    another. Of an installed package only the class's own file counts.

    Args:
        target: `path/to/file.py:Class` or `module:Class`.
        bases: of one of which it must be a subclass.

    Raises:
        InputError: a missing file or class, another kind of class, or an import in a folder that
            another module of that name hides.
    """
    place, _, attribute = target.rpartition(":")
    if not place.endswith(".py"):
        kind = _loaded(lambda: importlib.import_module(place), place, attribute, bases)
        return kind, sha256(Path(inspect.getsourcefile(kind)))
    path = Path(place).absolute()
    if not path.is_file():
        what = " or ".join(base.__name__.lower() for base in bases)
        raise InputError(f"no file {place} to take the {what} {attribute} from.")
    if (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.append(folder)
    helpers = _imports(path)
    for module, helper in helpers.items():
        if "." not in module:  # to find another would run its package
            _check_found(path, module, helper)
    kind = _loaded(lambda: _execute(path), place, attribute, bases)
    return kind, _joined([path, *helpers.values()])


def source_of(function: Callable) -> str:
    """The file of a function, whatever decorates it; "" of none that is written in Python."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_filename if code else ""


def _imports(path: Path) -> dict[str, Path]:
    """Modules of its own folder that a file imports, anywhere in it, and they theirs: by name.

    The standard library's modulefinder stops at folders without `__init__.py`.
    """
    folder = path.parent.resolve()
    found: dict[str, Path] = {}
    waiting = [path.resolve()]
    while waiting:
        for name in _named(waiting.pop(), folder):
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                module, place = ".".join(parts[:count]), folder.joinpath(*parts[:count])
                files = place / "__init__.py", place.with_name(f"{place.name}.py")
                file = next((each for each in files if each.is_file()), None)
                if file and module not in found and parts[0] != "tcig":
                    found[module] = file
                    waiting.append(file)
    return dict(sorted(found.items()))


def _named(file: Path, folder: Path) -> Iterator[str]:
    """Dotted names that a file imports; what is taken from a module may be one itself."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return  # loading it says what is wrong
    package = file.parent.relative_to(folder).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            parts = (*above, *filter(None, [node.module]))
            yield from (".".join((*parts, alias.name)) for alias in node.names)


def _check_found(path: Path, module: str, helper: Path) -> None:
    """Whether an import will find the file that is in the folder."""
    try:
        origin = importlib.util.find_spec(module).origin
    except (ImportError, AttributeError, ValueError):
        return  # loading it says what is wrong
    if origin and Path(origin).resolve() != helper:
        raise InputError(
            f"{path} imports {module}, which would be {origin} and not {helper}: rename the latter."
        )


def _joined(files: Sequence[Path]) -> str:
    """SHA-256 of one file, or of the hashes of several."""
    hashes = [sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _execute(path: Path):
    name = f"tcig_plugin_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where postponed annotations are looked up
    spec.loader.exec_module(module)
    return module


def _loaded(load: Callable, place: str, attribute: str, bases: tuple[type[T], ...]) -> type[T]:
    try:
        with refusing(place, "cannot be loaded", place):
            module = load()
    except PluginError as error:  # a check of it has nothing to try
        raise InputError(str(error)) from error
    found = getattr(module, attribute, None)
    if not _is_a(found, bases):
        there = [name for name, each in vars(module).items() if _is_a(each, bases)]
        own = [name for name in there if not inspect.isabstract(getattr(module, name))]
        hint = f"; there are {', '.join(own)}" if own else ""
        whole = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in bases)
        raise InputError(f"{place} has no class {attribute} that is a {whole}{hint}.")
    if found.__abstractmethods__:
        raise InputError(
            f"{place}: {attribute} lacks {', '.join(sorted(found.__abstractmethods__))}."
        )
    return found


def _is_a(found: Any, bases: tuple[type, ...]) -> bool:
    return isinstance(found, type) and issubclass(found, bases)
