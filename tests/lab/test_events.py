"""Each kind of ledger line has one class, through which lines are written and read; a line that differs is refused."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_kit import HELPS, make_lab, script

from autolab.cli import status
from autolab.errors import RecordError
from autolab.lab.ledger import Ledger, Line
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign, Champion, Claims, Exploration, Loop, ProvisionalStep, State
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.events import EVENTS, Event, RunEnded, RunStarted, TrialEnded, TrialLost
from autolab.lab.schemas.experiment import Calibration
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.record import Record

SOURCE = Path(events.__file__).parents[2]

SHA, COMMIT = "5f" * 32, "64f5" * 10
STATE = State(iteration_id="i1", stage=Stage.DESIGN, max_stage_attempts=5, max_bounces=5, max_total_iterations=50)
CHAMPION = Champion(
    iteration_id="i1", run_id="run_0002", commit=COMMIT, parent=COMMIT, protocol=SHA, gain=0.03, metrics={"loss": 0.1}
)
LOOP = Loop(max_iterations=3, goal="a lower loss", first_iteration=0)
CAMPAIGN = Campaign(
    iterations=1, champions=(CHAMPION,), claims=Claims(confirmations=2, kept=1, alpha=0.005, questions=1), loop=LOOP
)
WHO = ResearcherConfig().value()
REQUEST = {"stage": "hypothesis", "kind": "hypothesis", "number": 1}
CALL = REQUEST | {"iteration_id": "i1", "call": 1, "model": "small", "url": "http://127.0.0.1/v1"}
TRIAL = {
    **{"trial": "baseline-s0", "arm": "baseline", "index": 0, "seed": 17, "attempt": 1, "commit": COMMIT},
    **{"key": "a3aa4a32.i1.run_0001.baseline-s0.a1", "content": SHA, "outcome": "completed", "score": {"loss": 0.25}},
    **{"self_reported": {}, "diverged": [], "seconds": 5.25, "message": ""},
}
INTERVAL = {"n": 6, "mean": 0.036, "low": 0.008, "high": None, "level": 0.99}
LESSON = {
    **{"iteration": 1, "iteration_id": "i1", "hypothesis_id": "h1", "title": "Shift", "family": "augmentation"},
    **{"changes": {"shift": 1}, "base": COMMIT, "commit": COMMIT, "status": "completed", "verdict": "refuted"},
    **{"outcome": None, "reason": "", "delta": 0.01, "gain": INTERVAL, "measured": INTERVAL, "baseline": INTERVAL},
    **{"seconds": 6.9, "baseline_seconds": 4.7, "decision": "new_hypothesis"},
}
CONFIRMATION = {
    **{"run_id": "run_0002", "arm": "wide", "difference": INTERVAL, "shrunken": 0.035, "reason": "supported"},
    **{"holdout": "passed", "holdout_error": "rows and seeds", "outcome": "kept", "claim": 1, "alpha": 0.005},
}
RUN = {"run_id": "run_0001"}
TIME = "2026-01-01T00:00:00.000Z"
EXAMPLES: dict[str, dict[str, Any]] = {
    "init": {"lab_id": "a3aa4a32", "seed": None, "branch": "main", "commit": COMMIT},
    "lab_moved": {"from": "/home/a/lab", "to": "/home/b/lab", "machine": "box"},
    "forked": {"from": "/home/a/lab", "was": "a3aa4a32", "lab_id": "0123abcd"},
    "control_changed": {"file": ".autolab/config.yaml", "sha256": SHA},
    "ledger_rebuilt": {"copy": "ledger.broken.5f.jsonl", "lines": 9, "unverified": [3, 4], "dropped": 0},
    "ledger_begun_anew": {"lost": 9, "iterations": 2, "open": None, "campaign": True},
    "published": {"commit": COMMIT, "files": 12},
    "transition": {
        **{"state": STATE.value(), "campaign": CAMPAIGN.value()},
        **{"outcome": "complete", "from": "hypothesis", "reason": "", "log": COMMIT},
    },
    "asked": REQUEST | {"key": "k", "researcher": "offline", "who": WHO, "prompt_sha256": SHA, "prompt_version": 2},
    "answered": REQUEST | {"reply": "requests/i1/hypothesis-1/reply.json", "sha256": SHA},
    "call_sent": CALL | {"request_sha256": SHA, "tokens": 900, "dollars": None},
    "call": {
        **CALL,
        **{"reason": "ok", "said": "", "status": 200, "input_tokens": 90, "output_tokens": 8, "dollars": 0.25},
        **{"path": "requests/i1/hypothesis-1/calls/1.reply.json", "sha256": SHA},
    },
    "waiting": REQUEST | {"service": "openai:gpt-5", "reason": "unreachable", "since": TIME, "until": None},
    "wait_ended": REQUEST | {"service": "openai:gpt-5", "outcome": "answered"},
    "parameter_refused": {
        **{"model": "openai:gpt-5", "url": "https://api.openai.com/v1", "parameter": "temperature"},
        **{"said": "HTTP 400: unsupported value"},
    },
    "exploration_fixed": {
        **{"champion": COMMIT, "protocol": SHA, "metric": "val_loss", "success_delta": 0.05, "rule": {"alpha": 0.005}},
        **{"alphas": [0.005, 0.00167], "bound": None, "reserve": 14, "arms": 4, "seeds": 1, "margin": 0.0},
        **{"triggers": ["the loop's end"]},
    },
    "idea_dropped": {"arm": "h3-shift", "reason": "review", "detail": "too slow"},
    "candidate": {"commit": COMMIT, "base": COMMIT, "slug": "h1-shift", "via": "assembler"},
    "checked": {
        **{"commit": COMMIT, "checks": {"paths": "pass", "tests": "skip", "dry_run": "fail"}},
        **{"findings": [{"check": "dry_run", "severity": "blocking", "message": "exit code 1", "file": None}]},
    },
    "reviewed": {"commit": COMMIT, "status": "pass", "sha256": SHA},
    "approved": {"commit": None, "over": ["too slow"], "sha256": SHA},
    "set_aside": {"candidate": CHAMPION.value(), "title": "Shift", "reasons": ["too good"]},
    "learned": {"lesson": LESSON},
    "document_edited": {"path": "FINDINGS.md", "sha256": None},
    "document_written": {"path": "FINDINGS.md", "entry": "i1", "sha256": SHA},
    "plan_stored": {"id": "pln1", "title": "Shift", "sha256": SHA},
    "candidate_stored": {"id": "cnd1", "plan": "pln1", "commit": COMMIT, "sha256": SHA},
    "proposal_set_aside": {"id": "p-0123456789", "by": "an agent", "title": "Shift", "reason": "it does not apply"},
    "run_started": {
        **{**RUN, "kind": "calibrate", "seeds": [17, 18], "protocol": SHA, "design_sha256": None, "rule": None},
        **{"cells": [["baseline", 0], ["again", 0]]},
    },
    "submitted": RUN | {"keys": ["a3aa4a32.i1.run_0001.baseline-s0.a1"]},
    "trial_lost": RUN | {"trial": "baseline-s0", "attempt": 1, "message": "the executor lost it"},
    "trial": RUN | {"trial": TRIAL},
    "trial_known": RUN | {"trial": TRIAL},
    "run_ended": RUN | {"status": "completed", "verdict": "supported", "reason": "", "manifest_sha256": SHA},
    "holdout_asked": {"run_id": "run_0002", "protocol": SHA, "question": 1},
    "confirmed": {"run_id": "run_0002", "of": "run_0001", "confirmation": CONFIRMATION},
}
"""The data of one line of each kind, as JSON gives it."""


def line(kind: str, data: dict[str, Any], n: int = 7) -> Line:
    return Line(n, "2026-01-01T00:00:00.000Z", kind, data, "", "")


def new_ledger(folder: Path) -> Ledger:
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder)
    ledger.create("0123abcd", folder)
    return ledger


# One class for each kind


def test_every_class_of_an_event_is_in_the_table_and_has_an_example() -> None:
    def below(base: type[Event]) -> Iterator[type[Event]]:
        for event in base.__subclasses__():
            yield event
            yield from below(event)

    assert {event for event in below(Event) if hasattr(event, "KIND")} == set(EVENTS.values())
    assert set(EXAMPLES) == set(EVENTS)


def test_nobody_appends_plain_values_to_a_ledger_but_the_ledger_and_the_typed_append() -> None:
    """`Ledger.append(event, data)` has two arguments, a list's `append` one; only the pictures use rich's Text."""
    untyped = set()
    for path in SOURCE.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            is_append = isinstance(call.func, ast.Attribute) and call.func.attr == "append" and len(call.args) == 2
            if is_append and ast.unparse(call.func) != "events.append":
                untyped.add(str(path.relative_to(SOURCE)))
    assert untyped - {"cli/board.py", "cli/picture.py", "cli/comparison_board.py"} == {
        "lab/ledger.py",
        "lab/schemas/events.py",
    }


# There and back


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_event_that_is_read_and_recorded_again_has_the_same_data(kind: str, tmp_path: Path) -> None:
    event = events.read_any(line(kind, EXAMPLES[kind]))
    assert isinstance(event, EVENTS[kind])
    events.append(new_ledger(tmp_path), event)
    (again,) = Ledger(tmp_path).lines()
    assert again.event == kind
    assert events.read_any(again) == event
    assert set(again.data) == set(EXAMPLES[kind]), "an optional field that was not given is not written"


@pytest.mark.process
def test_every_line_of_a_loop_is_read_by_its_class_and_gives_the_same_data_back(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS))
    ended = kit.autolab("loop", "--max-iterations", "1", "--goal", "a lower loss")
    assert ended.code == 0, ended.err
    lines = list(Ledger(kit.store).lines())
    again = new_ledger(tmp_path / "again")
    for recorded in lines:
        copy = events.append(again, events.read_any(recorded))
        assert (copy.event, json.dumps(copy.data)) == (recorded.event, json.dumps(recorded.data))
    assert {"init", "control_changed", "run_started", "trial", "run_ended", "asked", "candidate", "reviewed"} <= {
        recorded.event for recorded in lines
    }
    assert {"learned", "document_written", "confirmed", "transition"} <= {recorded.event for recorded in lines}


def test_an_optional_field_given_as_none_is_left_out_and_a_required_one_is_written() -> None:
    ended = RunEnded(run_id="r", status="failed", verdict=None, reason="", manifest_sha256=None)
    assert ended.value() == {
        **{"run_id": "r", "status": "failed", "verdict": None, "reason": "", "manifest_sha256": None}
    }
    started = events.read(line("run_started", EXAMPLES["run_started"]), RunStarted)
    assert "cells" not in started.model_copy(update={"cells": None}).value()


def test_events_of_a_kind_come_in_the_order_of_their_lines() -> None:
    data = EXAMPLES["trial_lost"]
    lines = [line("trial_lost", data | {"attempt": n}) for n in (1, 2)]
    found = events.events_of([lines[0], line("trial", EXAMPLES["trial"]), lines[1]], TrialLost)
    assert [event.attempt for event in found] == [1, 2]


# What does not fit is refused


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_key_that_the_class_does_not_have_is_refused_with_line_and_field(kind: str) -> None:
    with pytest.raises(RecordError, match=r"^ledger\.jsonl line 7: surplus: unknown key$"):
        events.read_any(line(kind, EXAMPLES[kind] | {"surplus": 1}))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_key_that_is_missing_or_of_another_type_is_refused_with_line_and_field(kind: str) -> None:
    required = [field.alias or name for name, field in EVENTS[kind].model_fields.items() if field.is_required()]
    for name in required:
        left = {key: value for key, value in EXAMPLES[kind].items() if key != name}
        with pytest.raises(RecordError, match=rf"^ledger\.jsonl line 7: {name}: missing$"):
            events.read_any(line(kind, left))
        with pytest.raises(RecordError, match=rf"^ledger\.jsonl line 7: {name}[.:]"):
            events.read_any(line(kind, EXAMPLES[kind] | {name: [{"no": "such"}]}))


def test_what_is_wrong_deep_in_a_line_is_named_with_its_path() -> None:
    trial = TRIAL | {"seed": "17"}
    with pytest.raises(RecordError, match=r"^ledger\.jsonl line 7: trial\.seed: .*got '17'$"):
        events.read(line("trial", {"run_id": "r", "trial": trial}), TrialEnded)


def test_a_kind_that_no_class_has_is_refused_by_name() -> None:
    with pytest.raises(RecordError, match=r"^ledger\.jsonl line 7: trials: "):
        events.read_any(line("trials", {}))


# `autolab status` reads lines without these classes


def test_status_names_no_key_that_no_class_has() -> None:
    tree = ast.parse(Path(status.__file__).read_text("utf-8"))
    of_campaign = (State, Campaign, Champion, Claims, Exploration, ProvisionalStep, Loop)
    of_events = (events.Transition, *of_campaign, RunStarted, TrialEnded, RunEnded, events.Waiting)
    classes = (*of_events, Calibration)
    names = {field.alias or name for record in classes for name, field in record.model_fields.items()}
    own = {key.value for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys if _is_text(key)}
    assert set(_keys_read(tree)) <= names | own


def _keys_read(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and _is_text(node.slice):
            yield node.slice.value
        is_get = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        if is_get and _is_text(node.args[0]):
            yield node.args[0].value


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


class NamedOnly(dict[str, Any]):
    """A line's data that fails the test if a key is read that its class does not have."""

    def __init__(self, data: dict[str, Any], record: dict[str, Any]) -> None:
        super().__init__({key: _named_only(value, record[key]) for key, value in data.items()})
        self.names = set(record)

    def __getitem__(self, key: str) -> Any:
        assert key in self.names, key
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        assert key in self.names, key
        return super().get(key, default)


def _named_only(value: Any, record: Any) -> Any:
    if isinstance(value, dict) and isinstance(record, dict):
        return NamedOnly(value, record)
    if isinstance(value, list):
        return [_named_only(item, whole) for item, whole in zip(value, record, strict=True)]
    return value


def test_status_reads_from_each_line_only_what_the_class_of_its_kind_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger(tmp_path)
    for kind in ("transition", "run_started", "submitted", "trial", "trial_lost", "run_ended"):
        ledger.append(kind, EXAMPLES[kind])
    plain = Ledger.lines

    def lines(self: Ledger, *args: Any, **more: Any) -> Iterator[Line]:
        for found in plain(self, *args, **more):
            whole = Record.value(events.read_any(found))
            yield Line(
                found.n, found.time, found.event, NamedOnly(found.data, whole), found.prev, found.hash, found.offset
            )

    monkeypatch.setattr(Ledger, "lines", lines)
    monkeypatch.setattr(status, "locate", lambda start: (start, tmp_path))
    value = status.read(tmp_path)
    assert value["run"]["status"] == "completed"
    assert value["run"]["trials"] == 1
    assert value["champion"]["commit"] == COMMIT
    assert "1 of 2 confirmed claims kept" in status.text(value)
