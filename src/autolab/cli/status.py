"""`autolab status`: where the lab stands, read from the ledger. Standard library only, so that it is quick.

It holds no lock, repairs nothing and may run at any moment: it shows the newest complete line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NoReturn

from autolab.errors import LedgerError, UsageError
from autolab.lab.ledger import Ledger
from autolab.lab.location import holder, locate
from autolab.text import one_line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"status: {message}; see `autolab status --help`")


def main(words: list[str]) -> int:
    parser = _Parser(prog="autolab status", description="Where the lab stands (reads only).")
    parser.add_argument("dir", nargs="?", default=".", help="a folder in the lab (default: here)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(words)
    value = read(Path(given.dir))
    print(json.dumps(value, indent=2) if given.json else text(value))
    return 0


def read(start: Path) -> dict[str, Any]:
    """State, loop, champion, claims, run under way, last verdict, what waits, the lock's holder, as one JSON value."""
    root, store = locate(start)
    ledger = Ledger(store)
    head = ledger.open()
    line = ledger.transition()
    if line is None:
        raise LedgerError(f"{ledger.path}: no transition in it; `autolab doctor --fix` begins it anew")
    campaign = line.data["campaign"]
    champions, waiting = campaign.get("champions", []), store / "pending"
    return {
        "lab": str(root),
        "lab_id": head.lab_id,
        "state": line.data["state"],
        "since": line.time,
        "iterations": campaign["iterations"],
        "trials": campaign["trials"],
        "hours": round(campaign["seconds"] / 3600, 3),
        "gpu_hours": round(campaign.get("gpu_seconds", 0.0) / 3600, 3),
        "tokens": campaign.get("tokens", 0),
        "dollars": campaign.get("dollars", 0.0),
        "loop": campaign["loop"],
        "champion": champions[-1] if champions else None,
        "claims": campaign.get("claims", {}),
        "run": _run(ledger, campaign["iteration_offset"]),
        "suspicious": len(campaign.get("suspicious", [])) + len(campaign.get("approved", [])),
        "held_by": holder(store),
        "documents_waiting": len(list(waiting.glob("*.json"))) if waiting.exists() else 0,
    }


def _run(ledger: Ledger, offset: int) -> dict[str, Any] | None:
    """The iteration's newest run: trials recorded so far, and how it ended if it did."""
    run: dict[str, Any] | None = None
    for line in ledger.lines(offset):
        if line.event == "run_started":
            run = {"run_id": line.data["run_id"], "trials": 0, "status": "running", "verdict": None, "reason": ""}
        elif run is not None and line.event == "trial" and line.data["run_id"] == run["run_id"]:
            run["trials"] += 1
        elif run is not None and line.event == "run_ended":
            run |= {key: line.data[key] for key in ("status", "verdict", "reason")}
    return run


def _kept(champion: dict[str, Any] | None, claims: dict[str, Any]) -> list[tuple[str, str]]:
    """What was kept, how much of it is expected to be false at most, and how often the holdout was asked."""
    rows = []
    if champion:
        gain = f"gain {champion['gain']:+.4g} on fresh seeds, shrunken"
        gain += ", claimed on this evaluation alone" if champion.get("evaluation_only") else ""
        rows.append(("champion", f"{champion['commit'][:12]} of {champion['iteration_id']}, {gain}"))
    if claims.get("confirmations"):
        share = 100 * min(1.0, claims["alpha"] / claims["kept"]) if claims["kept"] else None
        false = f"; at most {share:.3g}% of the kept expected false" if share is not None else ""
        rows.append(("kept", f"{claims['kept']} of {claims['confirmations']} confirmed claims kept{false}"))
    if claims.get("questions"):
        rows.append(("holdout", f"{claims['questions']} question{'s' * (claims['questions'] > 1)} asked"))
    return rows


def text(value: dict[str, Any]) -> str:
    state, loop, run = value["state"], value["loop"], value["run"]
    attempt = f", attempt {state['stage_attempt']} of {state['max_stage_attempts']}"
    rows = [
        ("lab", f"{value['lab']} ({value['lab_id']})"),
        (
            "iteration",
            f"{state['iteration_id'] or 'none open'} ({value['iterations']} so far, {value['trials']} trials)",
        ),
        ("stage", f"{state['stage']}{attempt if state['stage_attempt'] > 1 else ''}, since {value['since']}"),
        ("sync", state["sync_status"]),
    ]
    if state["reason"]:
        rows.append(("reason", state["reason"]))
    if run:
        said = f"{run['status']}{', ' + run['verdict'] if run['verdict'] else ''}"
        rows.append(("run", f"{run['run_id']}: {said}, {run['trials']} trials recorded"))
    rows += _kept(value["champion"], value["claims"])
    if value.get("tokens"):
        paid = f", ${value['dollars']:.4f}" if value["dollars"] else ""
        rows.append(("thinking", f"{value['tokens']:,} tokens{paid}"))
    if loop:
        done = value["iterations"] - loop["first_iteration"]
        rows.append(
            ("loop", f"iteration {done} of {loop['max_iterations']}" + (f", {loop['goal']}" if loop["goal"] else ""))
        )
    if value["documents_waiting"]:
        rows.append(("documents", f"{value['documents_waiting']} entries wait for the checkout"))
    if value.get("suspicious"):
        rows.append(("suspicious", f"{value['suspicious']} set aside; `autolab review` shows them"))
    rows.append(("held by", value["held_by"] or "nobody"))
    return "\n".join(f"{name:<10} {one_line(said)}" for name, said in rows)
