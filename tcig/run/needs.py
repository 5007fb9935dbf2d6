"""The weights that a profile needs."""

from collections.abc import Sequence

from tcig.eval.judges import SOURCES
from tcig.models.weights import local
from tcig.profiles import SCORER, Profile
from tcig.run.spec import Chosen, choose_rows


def needs(
    profile: Profile,
    chosen: Sequence[Chosen] | None = None,
    judged: bool = True,
    quality: bool = True,
) -> list[str]:
    """What is fetched for a profile's rows and their measures, each once; shipped models are not.

    Args:
        profile: the profile.
        chosen: rows with their options; None: those that the profile lists.
        judged: whether the judges are counted.
        quality: whether the networks of `tcig quality` are.
    """
    chosen = choose_rows(profile) if chosen is None else chosen
    found = [source for each in chosen for source in each.sources]
    if judged:
        found += [SOURCES[judge] for judge in profile.judges if judge in SOURCES]
    if quality:
        found += [name for name in (profile.scorer, profile.features) if name not in (None, SCORER)]
    return [name for name in dict.fromkeys(found) if local(name) is None]
