"""Methods by name or by file, loaded when asked for."""

import difflib
import importlib
import importlib.util
import sys
from pathlib import Path

from tcig.data.errors import InputError
from tcig.methods.base import Method

METHODS = {
    "real": "tcig.methods.references:Real",
    "paste": "tcig.methods.references:Paste",
    "empty": "tcig.methods.references:Empty",
}


def find_method(name: str) -> tuple[str, type[Method]]:
    """The row's name and the class of a method of `METHODS` or of `path/to/file.py:Class`.

    Raises:
        InputError: unknown name, missing file or class, or a class that is no `Method`.
    """
    if name in METHODS:
        module, _, attribute = METHODS[name].partition(":")
        return name, getattr(importlib.import_module(module), attribute)
    file, _, attribute = name.rpartition(":")
    if file.endswith(".py") and attribute in METHODS:
        raise InputError(f"{name}: tcig has a row {attribute} of its own, rename the class.")
    if file.endswith(".py") and attribute:
        return attribute, _from_file(Path(file), attribute)
    near = difflib.get_close_matches(name, METHODS, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(
        f"no method {name!r}{hint}: there are {', '.join(METHODS)}, or path/to/file.py:Class."
    )


def _from_file(path: Path, attribute: str) -> type[Method]:
    if not path.is_file():
        raise InputError(f"no file {path} to take the method {attribute} from.")
    spec = importlib.util.spec_from_file_location(f"tcig_method_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} cannot be loaded ({type(error).__name__}: {error}).") from error
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InputError(f"{path} has no class {attribute} that is a tcig.methods.base.Method.")
    if found.__abstractmethods__:
        raise InputError(
            f"{path}: {attribute} lacks {', '.join(sorted(found.__abstractmethods__))}."
        )
    return found
