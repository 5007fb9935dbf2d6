"""`tcig`: hands over to a subcommand, whose modules are loaded only then."""

import difflib
import errno
import importlib
import io
import os
import signal
import sys
import threading
import warnings

COMMANDS = {
    "layouts": "COCO annotations -> a manifest of layouts; count, download, export",
    "run": "generate images with methods, then score them",
    "draw": "an image from a prompt and a drawn mask, by any method",
    "figures": "masks and images side by side, the two stages, the course of stage 1",
    "smoke": "every row on two layouts, against stored ranges",
    "sweep": "measure rows under combinations of options; presets test the paper's claims",
    "calibrate": "which definition gives real photographs the published 0.43 ± 0.09",
    "check": "whether a method or judge of your own keeps what the benchmark builds on",
    "score": "score a folder of images, anyone's",
    "quality": "CLIP scores, boundary IoU, diversity and KID of scored folders",
    "plan": "what a run will cost: evaluations, hours, downloads, disk",
    "rehearse": "a profile's whole path here, with random weights and few steps",
    "weights": "list, fetch, verify and find the weights of the profiles",
    "table": "mean ± std IoU of scored folders, beside the published figures",
    "report": "a comparison as one HTML file: the table, plots and every image",
    "compare": "two results lined up row by row, or refused with the reason",
}
"""Subcommand, a module of `tcig.commands` with a function `main(argv) -> int`, and what it does."""

STOPPED = "tcig: stopped; the same command goes on from here"
GRACE = 0.7
"""Seconds in which an interrupted command tidies up, before its process is ended (our choice)."""

USAGE = """usage: tcig COMMAND [OPTIONS]     (tcig COMMAND --help has examples)

The benchmark for mask-controlled text-to-image generation on COCO.

{commands}

Exit status: 0 all well; 1 some samples failed, the rest is written; 2 unusable input; 130 stopped.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs a subcommand; a user's mistake is one sentence on standard error and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack a character, such as ±
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_: f"tcig: warning: {message}\n"
    # diffusers' Kolors, which comes with every AutoPipeline, uses a deprecated part of torch.
    warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
    # Pillow's own bound is below that of tcig.data.pictures.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    try:
        status = _main(argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # as in `tcig table runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "; free some space, then run the same command again" if full else ""
        return _refuse(f"{place}{error.strerror or error}{fix}")
    except MemoryError:
        return _refuse("the memory does not suffice for this input")
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 128 + signal.SIGINT


def _main(argv: list[str]) -> int:
    for argument in argv:
        try:
            argument.encode()
        except UnicodeEncodeError:
            return _refuse(f"argument {argument!r} is not UTF-8; rename the file or type it again")
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:<13}{what}" for name, what in COMMANDS.items()]
        print(USAGE.format(commands="\n".join(lines)), end="")
        return 0 if argv else 2
    name, *rest = argv
    if name == "--version":
        from importlib.metadata import version

        print(f"tcig {version('tcig')}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return _refuse(f"no command {name!r}{hint} (tcig --help lists them)")
    from tcig.data.files import DeviceLostError, InputError

    try:
        module = f"tcig.commands.{name.replace('-', '_')}"
        return importlib.import_module(module).main(rest)
    except InputError as error:
        return _refuse(str(error))
    except DeviceLostError as error:
        print(f"tcig: error: {error}", file=sys.stderr)
        return 1


def _refuse(reason: str) -> int:
    print(f"tcig: error: {reason}", file=sys.stderr)
    return 2


def entry() -> None:
    """Runs the command line as a process of its own, which Ctrl-C ends within a second.

    An interrupt may be lost, as in a callback of C code, and freeing networks takes longer than a
    second. What is finished is kept, as after a kill.
    """
    leave = os._exit  # as it is before a plug-in is under guard

    def end() -> None:
        os.write(2, f"{STOPPED}\n".encode())
        leave(128 + signal.SIGINT)

    def interrupt(*_) -> None:
        if "ray" not in sys.modules:  # Ray's processes are to be shut down
            watch = threading.Timer(GRACE, end)
            watch.daemon = True
            watch.start()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as under nohup
        signal.signal(signal.SIGINT, interrupt)
    status = main()
    if status == 128 + signal.SIGINT:
        leave(status)
    sys.exit(status)


if __name__ == "__main__":
    entry()
