"""What does a long history cost? The lab's ledger at 100 and at 20,000 lines: open, read the newest state, append.

    python benchmarks/growth.py [--short 100] [--long 20000] [--rounds 30]

Two labs of the `digits` template get that many lines through the product's own `Ledger`, with fsync left out while they
are filled. Then, in turns, each is opened as a command opens it (`Lab.hold`), its newest state is read and one event is
appended; and `autolab status` is run on each in a process of its own. The last line is each cost as a ratio, long
against short: near 1 means that iteration 10,000 costs what iteration 10 costs. Medians, because an fsync has outliers.
For comparison the price that is paid only when something else wrote the file: checking the whole chain.
What it does not show: git's own growth (refs/autolab/log is one chain of commits; its tip alone is read) and documents,
whose cost is bounded by their roll-over.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from autolab.cli import command_line
from autolab.lab.lab import Lab


def make_lab(root: Path, lines: int) -> Lab:
    """A lab whose ledger has `lines` lines, a transition every tenth, as an iteration has about."""
    with contextlib.redirect_stdout(io.StringIO()):
        if command_line.main(["init", str(root), "--seed", "0"]):
            sys.exit("no lab could be made")
    lab = Lab(root)
    with lab.hold("benchmark"):
        state, campaign = lab.load()
        data = {"state": state.value(), "campaign": campaign.value(), "why": "benchmark"}
        sync = os.fsync
        os.fsync = lambda _: None
        try:
            while lab.ledger.head.n < lines - 1:
                last = lab.ledger.head.n % 10 == 0
                lab.ledger.append("transition" if last else "trial", data if last else {"text": "x" * 600})
            lab.transition(state, campaign.model_copy(update={"iteration_offset": lab.ledger.head.size}))
        finally:
            os.fsync = sync
    return lab


def step(root: Path) -> None:
    """What every command does around its work."""
    lab = Lab.find(root)
    with lab.hold("benchmark"):
        lab.load()
        lab.ledger.append("trial", {"text": "x"})


def status(root: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "autolab", "status", "--dir", str(root)], stdout=subprocess.DEVNULL, check=True
    )


def check(root: Path) -> None:
    Lab.find(root).ledger.check()


def median(action: Callable[[Path], None], roots: list[Path], rounds: int) -> list[float]:
    """Median seconds of `action` on each lab, taken in turns."""
    taken: list[list[float]] = [[] for _ in roots]
    for _ in range(rounds):
        for times, root in zip(taken, roots, strict=True):
            began = time.perf_counter()
            action(root)
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", type=int, default=100)
    parser.add_argument("--long", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        labs = [make_lab(Path(folder) / str(lines), lines) for lines in (given.short, given.long)]
        roots = [lab.root for lab in labs]
        sizes = [lab.ledger.path.stat().st_size / 1e6 for lab in labs]
        print(f"{'':<28} {given.short:>9} lines {given.long:>9} lines   ratio")
        print(f"{'ledger, MB':<28} {sizes[0]:15.2f} {sizes[1]:15.2f}   {sizes[1] / sizes[0]:5.1f}")
        actions = {"open, read, append, close": (step, given.rounds), "autolab status": (status, given.rounds)}
        actions["check the whole chain"] = (check, 3)
        for name, (action, rounds) in actions.items():
            short, long = median(action, roots, rounds)
            print(f"{name + ', ms':<28} {short * 1e3:15.2f} {long * 1e3:15.2f}   {long / short:5.1f}")


if __name__ == "__main__":
    main()
