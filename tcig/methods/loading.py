"""A row's class, loaded when asked for, and the code that it is made of."""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tcig.data.errors import InputError, describe
from tcig.data.files import sha256
from tcig.methods.base import Method
from tcig.methods.registry import ROWS, Row


def load_method(row: Row) -> tuple[type[Method], str | None]:
    """The row's class, and the SHA-256 of its code where it is none of tcig's own.

    A file may import what lies in its folder: then all of these count, as they stand, one after
    another. Of an installed package only the class's own file counts.

    Raises:
        InputError: a missing file or class, a class that is no `Method`, or an import in a folder
            that another module of that name hides.
    """
    place, _, attribute = row.target.rpartition(":")
    if row in ROWS.values():
        return getattr(importlib.import_module(place), attribute), None
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise InputError(f"no file {path} to take the method {attribute} from.")
        if (folder := str(path.parent.resolve())) not in sys.path:
            sys.path.append(folder)
        helpers = _imports(path)
        for module, helper in helpers.items():
            if "." not in module:  # to find another would run its package
                _check_found(path, module, helper)
        return _loaded(lambda: _execute(path), place, attribute), _joined([path, *helpers.values()])
    kind = _loaded(lambda: importlib.import_module(place), place, attribute)
    return kind, sha256(Path(inspect.getsourcefile(kind)))


def source_of(kind: type[Method]) -> str:
    """The file in which the class draws, whatever decorates it; "" of no Python function."""
    code = getattr(inspect.unwrap(kind.generate), "__code__", None)
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
    except (SyntaxError, ValueError, OSError):
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
    spec = importlib.util.spec_from_file_location(f"tcig_method_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _loaded(load: Callable, place: str, attribute: str) -> type[Method]:
    try:
        module = load()
    except (Exception, SystemExit) as error:
        raise InputError(f"{place} cannot be loaded: {describe(error, place)}.") from error
    found = getattr(module, attribute, None)
    if not _is_method(found):
        there = [name for name, each in vars(module).items() if _is_method(each)]
        own = [name for name in there if not inspect.isabstract(getattr(module, name))]
        hint = f"; there are {', '.join(own)}" if own else ""
        raise InputError(
            f"{place} has no class {attribute} that is a tcig.methods.base.Method{hint}."
        )
    if found.__abstractmethods__:
        raise InputError(
            f"{place}: {attribute} lacks {', '.join(sorted(found.__abstractmethods__))}."
        )
    return found


def _is_method(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Method)
