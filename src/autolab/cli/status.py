"""`autolab status`: the state of the lab, read from the ledger. Standard library only, so that it is quick.

It holds no lock, repairs nothing and may run at any moment: it shows the newest complete line.
"""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from autolab.errors import ExitCode, LedgerError, RecordError, UsageError
from autolab.lab import time_limits
from autolab.lab.ledger import Ledger
from autolab.lab.location import holder, locate
from autolab.lab.time_limits import Limit
from autolab.text import clock_time, one_line

Rows = list[tuple[str, str]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"status: {message}; see `autolab status --help`")


def main(options: list[str]) -> int:
    parser = _Parser(prog="autolab status", description="Show the state of the lab; changes nothing.")
    parser.add_argument(
        "--dir", metavar="DIR", default=".", help="A folder in the lab, if it is not this one. (default: .)"
    )
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    arguments = parser.parse_args(options)
    status = read(Path(arguments.dir))
    print(json.dumps(status, indent=2) if arguments.json else text(status))
    return ExitCode.DONE


def read(start: Path) -> dict[str, Any]:
    """State, loop, champion, claims, newest run, what waits for the user, and who holds the lock, as a JSON object.

    `waiting`: the model service that the command which runs waits for, since when, and until when at most; else null.
    `unclaimed` counts the steps, `batches` the batches since the base; `working` is the commit of the newest step,
    `base` what a claim compares it with, `reserve` the trials set aside for the claim: null outside of an exploration.
    """
    root, store = locate(start)
    ledger = Ledger(store)
    head = ledger.open()
    line = ledger.transition()
    if line is None:
        raise LedgerError(f"{ledger.path}: no transition in it; `autolab doctor --fix` begins it anew")
    # Not parsed into a campaign: pydantic alone takes longer to load than this command runs.
    campaign = line.data["campaign"]
    # Older ledgers lack the keys that are read with `get`.
    champions = campaign.get("champions") or [None]
    hours = round(campaign["seconds"] / 3600, 3)
    gpu_hours = round(campaign.get("gpu_seconds", 0.0) / 3600, 3)
    suspicious = len(campaign.get("suspicious", []))
    suspicious += len(campaign.get("approved", []))
    exploration = campaign.get("exploration") or {}
    run = _newest_run(ledger, campaign["iteration_offset"])
    held_by = holder(store)
    # One that was killed or paused left its wait open.
    waiting = _open_wait(ledger, campaign["iteration_offset"]) if held_by else None
    entries = list(store.glob("pending/*.json"))
    # One that was taken is moved away.
    proposals = list(store.glob("proposals/*.json"))
    return {
        "lab": str(root),
        "lab_id": head.lab_id,
        "state": line.data["state"],
        "since": line.time,
        "iterations": campaign["iterations"],
        "uncapped": campaign.get("uncapped", 0),
        "claims_begun": campaign.get("claims_begun", 0),
        "gear": campaign.get("gear", "each"),
        "batches": exploration.get("batches", 0),
        "trials": campaign["trials"],
        "hours": hours,
        "gpu_hours": gpu_hours,
        "tokens": campaign.get("tokens", 0),
        "dollars": campaign.get("dollars", 0.0),
        "loop": campaign["loop"],
        "champion": champions[-1],
        "claims": campaign.get("claims", {}),
        "unclaimed": exploration.get("unclaimed", 0),
        "working": _working(exploration),
        "base": exploration.get("base"),
        "reserve": exploration.get("reserve"),
        "run": run,
        "time_limit": time_limit((run or {}).get("time_limit"), store / "calibration.json"),
        "suspicious": suspicious,
        "held_by": held_by,
        "waiting": waiting,
        "documents_waiting": len(entries),
        "proposals_waiting": len(proposals),
    }


def _working(exploration: dict[str, Any]) -> str | None:
    """The commit that the next ideas branch from: the newest step's, or the base."""
    steps = exploration.get("steps")
    if steps:
        return str(steps[-1]["commit"])
    return exploration.get("base")


def _newest_run(ledger: Ledger, offset: int) -> dict[str, Any] | None:
    """The iteration's newest run: trials recorded so far, and how it ended if it did."""
    run: dict[str, Any] | None = None
    # The iteration's lines alone: the history before it may be long.
    for line in ledger.lines(offset):
        data = line.data
        if line.event == "run_started":
            run = {"run_id": data["run_id"], "trials": 0, "status": "running", "verdict": None, "reason": ""}
            run["time_limit"] = data.get("time_limit")
        elif run is None:
            continue
        elif line.event == "trial" and data["run_id"] == run["run_id"]:
            run["trials"] += 1
        elif line.event == "run_ended":
            for key in ("status", "verdict", "reason"):
                run[key] = data[key]
    return run


def _open_wait(ledger: Ledger, offset: int) -> dict[str, Any] | None:
    """The newest wait for a model service, if nothing but probes came after it."""
    waiting: dict[str, Any] | None = None
    for line in ledger.lines(offset):
        if line.event == "waiting":
            waiting = {key: line.data.get(key) for key in ("service", "reason", "since", "until")}
        elif line.event not in ("call_sent", "call"):
            waiting = None
    return waiting


def time_limit(of_run: Limit | None, calibration: Path) -> Limit | None:
    """The newest run's limit of a training, or what follows from a calibration since; None if neither is known."""
    # A calibration has the limit of a lab that has none: what it measured counts for the runs after it.
    if of_run is not None and of_run["source"] != "default":
        return of_run
    try:
        slowest_s = float(json.loads(calibration.read_text(encoding="utf-8"))["slowest_seconds"])
    except FileNotFoundError:
        return of_run
    except (ValueError, KeyError, TypeError):
        raise RecordError(".git/autolab/calibration.json: damaged; `autolab doctor --fix` makes it again") from None
    return {"seconds": time_limits.after_calibration(slowest_s), "source": "calibration"}


def text(status: dict[str, Any]) -> str:
    """The same as rows: what goes on and what waits for the user first, then results, then costs."""
    rows = [("lab", f"{status['lab']} ({status['lab_id']})")]
    rows += [*_activity(status), *_waiting(status), *_results(status), *_costs(status)]
    return "\n".join(f"{name:<10} {one_line(value)}" for name, value in rows)


def _activity(status: dict[str, Any]) -> Rows:
    state, loop, run = status["state"], status["loop"], status["run"]
    stage = state["stage"]
    if state["stage_attempt"] > 1:
        stage += f", attempt {state['stage_attempt']} of {state['max_stage_attempts']}"
    rows = [
        ("running", status["held_by"] or "nothing; `autolab loop` starts or goes on"),
        ("stage", f"{stage}, since {status['since']}"),
    ]
    if status.get("waiting"):
        rows.append(("waiting", _wait_text(status["waiting"])))
    if state["reason"]:
        rows.append(("reason", state["reason"]))
    if state["iteration_id"]:
        rows.append(("iteration", state["iteration_id"]))
    if run:
        outcome = run["status"]
        if run["verdict"]:
            outcome = f"{outcome}, {run['verdict']}"
        rows.append(("run", f"{run['run_id']}: {outcome}, {run['trials']} trials recorded"))
    limit = status.get("time_limit")
    if limit:
        rows.append(("limit", time_limits.sentence(limit["seconds"], limit["source"])))
    if loop:
        number = _counted(status) - loop["first_iteration"]
        progress = f"iteration {number} of {loop['max_iterations']}"
        if status.get("gear") == "claim":
            progress = f"a claim, after {progress}"
        if loop["goal"]:
            progress = f"{progress}, {loop['goal']}"
        rows.append(("loop", progress))
    if state["sync_status"] != "na":
        rows.append(("sync", state["sync_status"]))
    return rows


def _wait_text(waiting: dict[str, Any]) -> str:
    """`for openai:gpt-5 until 03:12 (unreachable: Connection refused), since 00:10`."""
    now = datetime.now().astimezone()
    text = f"for {waiting['service']}"
    if waiting["until"]:
        text += f" until {clock_time(datetime.fromisoformat(waiting['until']), now)}"
    since = clock_time(datetime.fromisoformat(waiting["since"]), now)
    return f"{text} ({waiting['reason']}), since {since}"


def _counted(status: dict[str, Any]) -> int:
    """The iterations that caps count: claims are none of them."""
    count: int = status["iterations"] - status.get("uncapped", 0)
    return count


def _waiting(status: dict[str, Any]) -> Rows:
    rows = []
    if status["state"]["stage"] == "human_review":
        rows.append(("waits", "for you; `autolab review` shows why"))
    if status.get("suspicious"):
        rows.append(("suspicious", f"{status['suspicious']} set aside; `autolab review` shows them"))
    number = status.get("proposals_waiting")
    if number:
        verb = "proposal waits" if number == 1 else "proposals wait"
        rows.append(("proposals", f"{number} {verb} for the next iteration; `autolab propose` lists them"))
    if status["documents_waiting"]:
        rows.append(("documents", f"{status['documents_waiting']} entries wait for the checkout"))
    return rows


def _results(status: dict[str, Any]) -> Rows:
    """The champion, what was kept, the expected share of false ones at most, and how often the holdout was asked."""
    champion, claims = status["champion"], status["claims"]
    rows = []
    if champion:
        gain = f"gain {champion['gain']:+.4g} on fresh seeds, shrunken"
        if champion.get("evaluation_only"):
            gain += ", claimed on this evaluation alone"
        commit = champion["commit"][:12]
        rows.append(("champion", f"{commit} of {champion['iteration_id']}, {gain}"))
    rows += _exploration(status)
    if claims.get("confirmations"):
        kept = claims["kept"]
        text = f"{kept} of {claims['confirmations']} confirmed claims kept"
        if kept:
            # Each confirmation passes a false claim with probability alpha at most, so the sum bounds their number.
            share = 100 * min(1.0, claims["alpha"] / kept)
            text += f"; at most {share:.3g}% of the kept expected false"
        rows.append(("kept", text))
    questions = claims.get("questions")
    if questions:
        plural = "" if questions == 1 else "s"
        rows.append(("holdout", f"{questions} question{plural} asked"))
    return rows


def _exploration(status: dict[str, Any]) -> Rows:
    """The steps that nothing has claimed yet, and what is set aside for the claim."""
    base, working, unclaimed = status.get("base"), status.get("working"), status.get("unclaimed", 0)
    if not base or not working:
        return []
    text = f"no step yet on {base[:12]}"
    batches = status.get("batches")
    if batches:
        text += f", {batches} batch{'' if batches == 1 else 'es'} screened"
    if unclaimed:
        steps = "1 step" if unclaimed == 1 else f"{unclaimed} steps"
        text = f"{steps} unclaimed on {base[:12]}; autolab/working is {working[:12]}, a best guess"
    rows = [("working", text)]
    # Without a budget that binds there is nothing to set aside.
    if status.get("reserve"):
        rows.append(("reserve", f"{status['reserve']} trials set aside for the claim"))
    return rows


def _costs(status: dict[str, Any]) -> Rows:
    costs = f"{_counted(status)} iterations"
    claims = status.get("claims_begun")
    if claims:
        costs += f" and {claims} claim{'' if claims == 1 else 's'}"
    costs += f", {status['trials']} trials"
    if status.get("hours"):
        costs += f", {status['hours']:.2f} h"
    if status.get("tokens"):
        costs += f", {status['tokens']:,} tokens"
    if status.get("dollars"):
        costs += f", ${status['dollars']:.4f}"
    return [("spent", costs)]
