"""Profiles: `NAME.toml` beside this file -> a typed, frozen setting.

`base = "NAME"` in one takes from another what it does not say itself.
"""

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tcig.data.emoji import FOLDER as EMOJI
from tcig.data.files import InputError, read_toml
from tcig.data.pictures import MAX_PIXELS
from tcig.models.devices import PLAIN, Compute

SCORER = "scorer"
LARGEST = math.isqrt(MAX_PIXELS)
_FOLDER = Path(__file__).parent


class Profile(BaseModel):
    """The settings that all methods share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The file's."""
    size: int = Field(gt=0, le=LARGEST)
    """Side of the images, pixels."""
    score_size: int = Field(gt=0, le=LARGEST)
    """Side at which label maps are compared with the truth."""
    judges: tuple[str, ...] = Field(min_length=1)
    scorer: str | None = None
    """CLIP of `tcig quality`, which should guide no row: see `tcig.models.weights.locate`."""
    prefix: str = ""
    """Stands before every text that the scorer sees."""
    features: str = SCORER
    """Network on whose features KID and FID are: `scorer`, or torch-fidelity's Inception."""
    batch: int = Field(gt=0)
    """Samples generated in one call of a method; the most of them, see `tcig.run.batches`."""
    compute: Compute = PLAIN
    """Where networks run, and in what arithmetic."""
    rows: tuple[str, ...] = ()
    """Rows that commands take where none are named."""
    embedded: bool = False
    """Whether layouts and photographs default to the embedded data set."""
    methods: dict[str, dict[str, Any]] = {}
    """Options of methods by name, where they are not the method's own defaults."""

    @property
    def coco(self) -> Path | None:
        """The COCO folder to use where none is given."""
        return EMOJI if self.embedded else None


def names() -> list[str]:
    """The profiles there are."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_profile(name: str) -> Profile:
    """The profile `name`, or of a TOML file.

    Raises:
        InputError: no such profile, or a setting that does not belong.
    """
    path, settings = _read(name)
    if not isinstance(settings.get("base", ""), str):
        raise InputError(f"{path}: base must be the name of a profile, got {settings['base']!r}.")
    if "base" in settings:
        base_path, base = _read(settings.pop("base"))
        if "base" in base:
            raise InputError(f"{path}: its base {base_path} has a base itself: one is enough.")
        settings = _over(base, settings)
    try:
        return Profile.model_validate(settings | {"name": path.stem})
    except ValidationError as error:
        problem = error.errors()[0]
        setting = ".".join(map(str, problem["loc"]))
        raise InputError(f"{path}: {setting}: {problem['msg']}.") from None


def _read(name: str) -> tuple[Path, dict[str, Any]]:
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.exists():
        raise InputError(f"no profile {name!r}: there are {', '.join(names())}, or give a .toml.")
    settings = read_toml(path)
    judges = settings.get("judges")
    if isinstance(judges, list):
        settings["judges"] = [_from(path.parent, judge) for judge in judges]
    if "name" in settings:
        raise InputError(f"{path}: name is the file's own, leave it out.")
    return path, settings


def _from(folder: Path, judge: Any) -> Any:
    """A judge's file, relative to the profile's folder, as an absolute path."""
    if isinstance(judge, str) and judge.rpartition(":")[0].endswith(".py"):
        return str(folder.absolute() / judge)
    return judge


def _over(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` over `base`, table by table."""
    both = {k: _over(base[k], v) for k, v in settings.items() if isinstance(base.get(k), dict)}
    return base | settings | both
