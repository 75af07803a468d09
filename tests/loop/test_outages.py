"""What only a user can fix, and services that go away: nothing is lost, no attempt is used, the loop goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab_kit import LabKit, decision, hypothesis, implementation, iteration, review
from model_kit import model_flags, model_lab, replies, reply
from standin import StandIn

pytestmark = pytest.mark.process

KEPT = replies(iteration(decide_repeat=decision("stop", "it is done")))
RULE = {"mode": "explore", "rule": "sequential", "alpha": 0.02, "max_pairs": 8, "confirm_pairs": 8}
LOOP = ("loop", "--max-iterations", "1")
USER = 3
"""Exit code of a loop that waits for a user."""

# What only a user can fix

FAULTS = [
    ("unauthorized", {"status": 401}, "set the key"),
    ("quota", {"status": 429, "error": {"code": "insufficient_quota"}}, "top up the account"),
    ("not_found", {"status": 404}, "check model and base_url"),
    ("redirect", {"status": 307, "headers": {"Location": "http://127.0.0.1:9/v1"}}, "give the address"),
    ("rejected", {"status": 400, "error": {"message": "no such parameter: top_q"}}, "check model and settings"),
]


def explorer(folder: Path) -> LabKit:
    return model_lab(folder, config={"test": RULE, "screen": {"arms": 2}, "budget": {"trials": 60}})


def requests_of(kit: LabKit) -> list[str]:
    return [line["data"]["kind"] for line in kit.events("answered")]


@pytest.mark.parametrize("mode", ["each", "explore"])
@pytest.mark.parametrize(("kind", "fault", "way"), FAULTS, ids=[one[0] for one in FAULTS])
def test_what_a_user_has_to_fix_is_asked_of_the_user_in_both_modes(
    tmp_path: Path, mode: str, kind: str, fault: dict[str, Any], way: str
) -> None:
    kit = explorer(tmp_path) if mode == "explore" else model_lab(tmp_path)
    with StandIn([reply("hypothesis", **fault)]) as server:
        ended = kit.autolab(*LOOP, *model_flags(server))
        assert len(server.requests) == 1
    assert ended.code == USER, ended.out + ended.err
    state = kit.state()
    assert (state["stage"], state["from_stage"], state["stage_attempt"]) == ("human_review", "hypothesis", 1)
    assert state["reason"].startswith(f"{kind}: ") and way in state["reason"]
    assert "then `autolab review retry` and the same command" in ended.out


def test_a_key_that_is_refused_in_mid_batch_loses_no_idea_and_no_code(tmp_path: Path) -> None:
    kit = explorer(tmp_path)
    titles = {"steeper": 3.0, "flat": 1.0}
    ideas = [reply("hypothesis", hypothesis(title)["output"]) for title in titles]
    code = [reply("implementation", implementation(width)["output"]) for width in titles.values()]
    passes = reply("implementation_review", review()["output"])
    refusal = {"status": 401}
    script = [
        *ideas,
        code[0],
        reply("implementation", **refusal),
        code[1],
        passes,
        reply("implementation_review", **refusal),
        passes,
    ]
    with StandIn(script) as server:
        words = (*LOOP, *model_flags(server))
        for stage in ("implementation", "implementation_review"):
            ended = kit.autolab(*words)
            assert ended.code == USER, ended.out + ended.err
            assert kit.state()["from_stage"] == stage and kit.state()["reason"].startswith("unauthorized: ")
            assert kit.autolab("review", "retry").code == 0
        ended = kit.autolab(*words)
        assert ended.code == 0, ended.out + ended.err
        assert len(server.requests) == len(script), "what was written and passed is not asked for again"
    assert not kit.events("idea_dropped")
    fates = {line["data"]["lesson"]["title"]: line["data"]["lesson"]["outcome"] for line in kit.events("learned")}
    assert fates["steeper"] == "provisional" and fates["flat"] == "dropped"
    replayed = kit.autolab("replay", "batch1")
    assert replayed.code == 0 and "the same decisions" in replayed.out, replayed.out + replayed.err
