"""The command line: names, exit codes, and one line for what goes wrong. No logic.

`autolab`, `autolab --help` and `autolab status` import the standard library only; everything else is
imported by the command that needs it. Exit codes: 0 done, 1 error in one line, 2 usage, 3 waits for a
user, 4 budget spent.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from types import TracebackType

from autolab.errors import AutolabError

COMMANDS = {
    "init": "make a lab: from a template, of your own repository (--from-existing), of a clone or a copy (--fork)",
    "demo": "a lab on digits, three iterations, with what to look at afterwards",
    "run": "one stage transition",
    "loop": "iterations until the count, the target, the patience or a budget ends them",
    "calibrate": "measure the baseline's noise and price; refuse what the budget cannot resolve",
    "status": "where the lab stands (reads only)",
    "verify": "check the lab's documents, ledger, prompts and programs",
    "review": "answer a lab that waits: approve, retry or stop",
    "stop": "ask a running loop to pause after the present trial",
    "reproduce": "run a run's trials again: identical, within the noise, or different",
    "replay": "an iteration again from its recorded replies: the same decisions?",
    "registry": "every iteration with its prompts, replies, numbers and decision",
    "publish": "commit the record of the iterations on your branch",
    "doctor": "what this machine and this lab lack; --fix fixes what can be fixed",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    sys.excepthook = _show_bug
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what no terminal's encoding has
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, rest = words[0], words[1:]
    if name == "--version":
        from autolab import __version__

        print(f"autolab {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"autolab: no command {name!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return _run(name, rest)
    except AutolabError as error:
        _say(f"autolab: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _say(f"autolab: {_disk(error)}\n")
        return 1
    except KeyboardInterrupt:
        print("autolab: interrupted; the same command goes on from here", file=sys.stderr)
        return 1


def _say(text: str) -> None:
    """To standard error, without secrets."""
    from autolab.lab.redaction import clean

    sys.stderr.write(clean(text))


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    import traceback

    _say("".join(traceback.format_exception(kind, error, trace)))


def _run(name: str, rest: list[str]) -> int:
    if name == "status":
        from autolab.cli import status

        return status.main(rest)
    from autolab.cli import commands

    return commands.call(name, rest)


def _help() -> str:
    rows = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
    return f"usage: autolab COMMAND [...]\n\n{rows}\n\n`autolab COMMAND --help` shows a command's options."


def _disk(error: OSError) -> str:
    """A full disk or a folder without access, in one line with the way out."""
    from autolab.text import one_line

    place = error.filename or "the disk"
    said = one_line(f"{place}: {error.strerror or error}")
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
        return f"{said}; something else was put in its place: `autolab doctor --fix` fixes the lab's own files"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{said}; give yourself access (`autolab doctor --fix` for the lab's own files), then run the command again"
        )
    return f"{said}; make room or access, then run the same command again: nothing recorded is lost"


if __name__ == "__main__":
    sys.exit(main())
