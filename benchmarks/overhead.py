"""What does the engine itself cost in an iteration on digits, with the trials left out?

    python benchmarks/overhead.py [--iterations 2] [--pairs 4] [--profile FILE]

Runs `autolab loop` of the digits template with the offline researcher, in mode `each`, in this very process. The
engine's own time is the wall time from before the first import to the end of the command, minus the time it waits: for
trials (in the executor's `poll`) and for the lab's own programs (the checks of a candidate, the evaluator). What
remains is all the engine does: imports, git, ledger and fsyncs, exports, statistics, figures, documents, and asking
the trials' interpreter what is installed in it. The first iteration carries the imports and exports that later ones
share.

Prints seconds an iteration, the share of each part, and the engine's own time against the trials' (their sum by
the ledger). What it does not show: waiting that the engine causes, such as a trial that starts late. Other programs on
the machine are counted as the engine's. `--profile` writes a cProfile of the whole, for `python -m pstats`.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import functools
import io
import json
import re
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
PROMISED_S = 2.0


class Watch:
    """Wall time spent inside of wrapped functions, by name; a call within a wrapped call counts for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inside = False

    def wrap(self, owner: Any, name: str, label: Callable[..., str]) -> None:
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*args: Any, **named: Any) -> Any:
            if self._inside:
                return inner(*args, **named)
            self._inside, began = True, time.perf_counter()
            try:
                return inner(*args, **named)
            finally:
                self._inside = False
                what = label(*args)
                self.seconds[what] += time.perf_counter() - began
                self.calls[what] += 1

        setattr(owner, name, timed)


def program(argv: list[str], *_: Any) -> str:
    """A question to the interpreter (`interpreter.packages_hash`) is the engine's own; all else is the lab's."""
    return "asking the interpreter" if argv[1:4] == ["-I", "-B", "-c"] else "the lab's programs"


def loop(root: Path, iterations: int) -> float:
    """Run the command; the seconds that it took, imports included."""
    began = time.perf_counter()
    from autolab.cli import command_line

    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = command_line.main(["loop", "--max-iterations", str(iterations), "--dir", str(root)])
    if code:
        sys.exit(f"the loop ended with {code}:\n{said.getvalue()}")
    return time.perf_counter() - began


def watched() -> tuple[Watch, float]:
    """The watch, and the seconds that importing what it wraps took."""
    watch, began = Watch(), time.perf_counter()
    from autolab import files
    from autolab.executors.local import LocalExecutor
    from autolab.lab import ledger, plumbing
    from autolab.sandbox import execute

    imports = time.perf_counter() - began
    watch.wrap(LocalExecutor, "poll", lambda *_: "trials")
    watch.wrap(execute, "run", program)
    watch.wrap(plumbing, "call_git", lambda *_: "git")
    watch.wrap(ledger.Ledger, "append", lambda *_: "ledger")
    watch.wrap(files, "write_whole", lambda *_: "files")
    return watch, imports


def make_lab(root: Path, pairs: int) -> None:
    from autolab.cli import command_line

    with contextlib.redirect_stdout(io.StringIO()):
        if command_line.main(["init", str(root), "--seed", "0"]):
            sys.exit("no lab could be made")
    config = root / ".autolab" / "config.yaml"
    told = re.sub(r"(max|confirm)_pairs: \d+", rf"\1_pairs: {pairs}", config.read_text())
    # So that the number of trials is known, and an iteration is one idea that is tested to its end.
    config.write_text(told.replace("rule: sequential", "mode: each, rule: fixed"))


def trials(root: Path) -> list[float]:
    """Seconds of each trial that ran, by the ledger."""
    lines = [json.loads(line) for line in (root / ".git" / "autolab" / "ledger.jsonl").read_text().splitlines()]
    found = [line["data"]["trial"] for line in lines if line["event"] == "trial"]
    return [trial["seconds"] for trial in found if trial["reused_from"] is None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=4, help="seeds a candidate is measured over")
    parser.add_argument("--profile", type=Path)
    given = parser.parse_args()
    start = time.perf_counter() - BEGAN
    watch, imports = watched()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lab"
        make_lab(root, given.pairs)
        watch.seconds.clear()
        watch.calls.clear()
        before = resource.getrusage(resource.RUSAGE_SELF)
        with cProfile.Profile() if given.profile else contextlib.nullcontext() as profile:
            wall = loop(root, given.iterations) + imports + start
        after = resource.getrusage(resource.RUSAGE_SELF)
        if profile is not None:
            profile.dump_stats(given.profile)
        report(watch, wall, imports, trials(root), given.iterations)
        cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / given.iterations
        print(f"{'processor time of this process':<34} {cpu:7.3f} s")


def report(watch: Watch, wall: float, imports: float, measured: list[float], iterations: int) -> None:
    waited = watch.seconds["trials"] + watch.seconds["the lab's programs"]
    own = (wall - waited) / iterations
    rows = {"wall time": wall, "waiting for trials": watch.seconds["trials"]}
    rows |= {"waiting for the lab's programs": watch.seconds["the lab's programs"]}
    print(f"{iterations} iterations, {len(measured)} trials; seconds an iteration")
    for name, seconds in rows.items():
        print(f"{name:<34} {seconds / iterations:7.3f} s")
    print(f"{'the engine itself':<34} {own:7.3f} s   ({PROMISED_S:g} s promised)")
    known = 0.0
    for name in ("git", "ledger", "files", "asking the interpreter"):
        known += watch.seconds[name]
        calls = watch.calls[name] / iterations
        print(f"  {name:<32} {watch.seconds[name] / iterations:7.3f} s   {calls:.0f} calls")
    print(f"  {'imports before the first step':<32} {imports / iterations:7.3f} s")
    print(f"  {'everything else':<32} {own - (known + imports) / iterations:7.3f} s")
    print(f"the engine against its trials: {own * iterations / sum(measured):.3f}")


if __name__ == "__main__":
    main()
