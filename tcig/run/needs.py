"""The weights that a profile needs."""

from collections.abc import Iterable

from tcig.eval.judges import SOURCES
from tcig.methods.registry import ROWS
from tcig.models.weights import local
from tcig.profiles import SCORER, Profile
from tcig.run.spec import complete


def needs(
    profile: Profile, rows: Iterable[str] = ROWS, judged: bool = True, quality: bool = True
) -> list[str]:
    """What is fetched for a profile's rows and their measures, each once; shipped models are not.

    Args:
        profile: as said.
        rows: of `ROWS`; one whose options the profile leaves open is left out.
        judged: whether the judges are counted.
        quality: whether the networks of `tcig quality` are.
    """
    found = [source for each in complete(profile, rows) for source in each.sources]
    if judged:
        found += [SOURCES[judge] for judge in profile.judges if judge in SOURCES]
    if quality:
        found += [name for name in (profile.scorer, profile.features) if name not in (None, SCORER)]
    return [name for name in dict.fromkeys(found) if local(name) is None]
