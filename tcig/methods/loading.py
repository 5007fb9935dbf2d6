"""A row's class, loaded when asked for, and the code that it is made of."""

import hashlib
import importlib
import importlib.util
import inspect
import modulefinder
import sys
from collections.abc import Callable, Sequence
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
        local = _imports(path)
        kind = _loaded(lambda: _execute(path), place, attribute)
        for module, helper in local.items():
            loaded = getattr(sys.modules.get(module), "__file__", None)
            if loaded and Path(loaded).resolve() != helper:
                raise InputError(
                    f"{path} imports {module}, which is {loaded} and not {helper}: rename it."
                )
        return kind, _joined([path, *local.values()])
    kind = _loaded(lambda: importlib.import_module(place), place, attribute)
    return kind, sha256(Path(inspect.getsourcefile(kind)))


def _imports(path: Path) -> dict[str, Path]:
    """Modules that a file imports of its own folder, they theirs too: files by name, in order."""
    finder = modulefinder.ModuleFinder(path=[str(path.parent.resolve())])
    try:
        finder.run_script(str(path))
    except (SyntaxError, ValueError, OSError):
        return {}  # loading it says what is wrong
    found = {name: module.__file__ for name, module in sorted(finder.modules.items())}
    return {
        name: Path(file).resolve() for name, file in found.items() if name != "__main__" and file
    }


def _joined(files: Sequence[Path]) -> str:
    """SHA-256 of one file, or of the hashes of several."""
    hashes = [sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _execute(path: Path):
    if (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.append(folder)
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
