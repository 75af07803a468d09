"""The command line: the names of the commands, exit codes, and one line for an error.

`autolab`, `autolab --help` and `autolab status` import the standard library only; everything else is imported by the
command that needs it. The exit codes are those of `errors.ExitCode`.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from types import TracebackType

from autolab.errors import AutolabError, ExitCode

GROUPS = {
    "start": {
        "demo": "make a lab on handwritten digits, screen ideas and claim the best",
        "init": "make a lab: from a template, a clone, a copy or your own repository",
    },
    "work": {
        "fetch": "run a command that prepares data once, with network, and keep what it makes for trials",
        "loop": "run iterations until their number, a target or a budget ends the loop",
        "run": "run one stage of the iteration",
        "stop": "ask a running loop to pause after the running trials",
        "propose": "hand a candidate to the loop, or list those that were",
        "review": "show what waits for you, or answer it",
        "calibrate": "measure the noise and the cost of the baseline",
        "eval": "measure your checkout or a revision as the lab measures, without a claim",
    },
    "compare": {
        "compare": "compare versions of a training until it is known whether one is better",
        "mcp": "serve these comparisons to a coding agent as tools (Model Context Protocol)",
    },
    "look": {
        "status": "show the state of the lab",
        "prompt": "show what a model would be sent, without sending it",
        "registry": "list the finished iterations: verdict, metrics, decision",
        "verify": "check the lab's documents, ledger, prompts and programs",
        "doctor": "check this machine and this lab, or repair the lab's files (--fix)",
    },
    "check and share": {
        "reproduce": "run the trials of a run again and compare",
        "replay": "repeat an iteration from its recorded replies and compare its decisions",
        "publish": "commit the record on your branch",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    sys.excepthook = _show_bug
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path may hold what no terminal's encoding has.
        sys.stdout.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return ExitCode.DONE
    name, options = words[0], words[1:]
    if name == "--version":
        from autolab import __version__

        print(f"autolab {__version__}")
        return ExitCode.DONE
    if name not in COMMANDS:
        print(f"autolab: no command {name!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return ExitCode.USAGE
    try:
        return _run(name, options)
    except AutolabError as error:
        _print_error(f"autolab: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        # The reader of standard output is gone. Python must not meet the same error again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR
    except OSError as error:
        _print_error(f"autolab: {_disk_message(error)}\n")
        return ExitCode.ERROR
    except KeyboardInterrupt:
        print("autolab: interrupted; the same command goes on from here", file=sys.stderr)
        return ExitCode.ERROR


def _print_error(text: str) -> None:
    """To standard error, without secrets."""
    # Here, as most calls print no error.
    from autolab.lab.redaction import clean

    sys.stderr.write(clean(text))


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    import traceback

    _print_error("".join(traceback.format_exception(kind, error, trace)))


def _run(name: str, options: list[str]) -> int:
    # `status` is called in prompts and loops of the shell: it must not wait for the imports of the others.
    if name == "status":
        from autolab.cli import status

        return status.main(options)
    from autolab.cli import commands

    return commands.call(name, options)


def _help() -> str:
    lines = ["usage: autolab COMMAND [OPTIONS]", ""]
    for title, group in GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<11} {text}" for name, text in group.items()]
        lines.append("")
    lines.append("`autolab COMMAND --help` shows a command's options. New here? `autolab demo` takes some minutes.")
    return "\n".join(lines)


def _disk_message(error: OSError) -> str:
    """A full disk or a folder without access, in one line with the way out."""
    from autolab.text import one_line

    problem = one_line(f"{error.filename or 'the disk'}: {error.strerror or error}")
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
        return f"{problem}; something else is in its place: `autolab doctor --fix` repairs the lab's own files"
    if error.errno in (errno.EACCES, errno.EPERM):
        way_out = "give yourself access (`autolab doctor --fix` for the lab's own files), then run the command again"
        return f"{problem}; {way_out}"
    return f"{problem}; make room or give access, then run the same command again: nothing recorded is lost"


if __name__ == "__main__":
    sys.exit(main())
