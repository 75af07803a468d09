"""Mode `explore` with a language model or a coding agent, through the command line: prompts, bad ideas, budgets."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from agent_kit import configure
from lab_kit import Kept, LabKit, hypothesis, implementation, review
from model_kit import model_flags, model_lab, reply
from standin import ReceivedRequest, ScriptedReply, StandIn

pytestmark = pytest.mark.process

RULE = {"mode": "explore", "rule": "sequential", "alpha": 0.02, "max_pairs": 8, "confirm_pairs": 8}
"""Four pairs that are clear are enough for it."""
PASSES = reply("implementation_review", review()["output"], times=0)
TRIALS = 60


def explorer(folder: Path, arms: int = 2, **budget: Any) -> LabKit:
    config = {"test": RULE, "screen": {"arms": arms}, "budget": {"trials": TRIALS, **budget}}
    return model_lab(folder, config=config)


def proposed(title: str, **more: Any) -> dict[str, Any]:
    return reply("hypothesis", hypothesis(title)["output"], **more)


def written(title: str, width: float) -> dict[str, Any]:
    """The code of one idea, whichever batch it is asked in."""
    return reply("implementation", implementation(width)["output"]) | {"when": asks_for("implementation", title)}


def asks_for(stage: str, title: str) -> str:
    return rf"(?ms)^stage: {stage}$.*^title: {title}$"


def batch_of(**widths: float) -> list[dict[str, Any]]:
    """What a model says of a batch: an idea for each title, and its code."""
    return [*map(proposed, widths), *(written(title, width) for title, width in widths.items()), PASSES]


def costly(*script: dict[str, Any]) -> list[dict[str, Any]]:
    """The script with 10,000 tokens a reply, a dollar at 100 dollars a million."""
    return [one | {"usage": {"input": 10_000, "output": 0}} for one in script]


def kinds(server: StandIn) -> list[str]:
    return [kind_of(request) for request in server.requests]


def kind_of(request: ReceivedRequest) -> str:
    found = re.search(r"(?m)^stage: (\w+)$", request.system)
    assert found is not None
    return found[1]


def prompts(server: StandIn, kind: str) -> list[str]:
    return [request.text for request in server.requests if kind_of(request) == kind]


def names(kit: LabKit) -> list[str]:
    return [folder.name.partition("_")[2] for folder in kit.iterations()]


def fates(kit: LabKit) -> dict[str, tuple[str | None, str]]:
    found = [line["data"]["lesson"] for line in kit.events("learned")]
    return {one["title"]: (one["outcome"], one["reason"]) for one in found}


def campaign(kit: LabKit) -> dict[str, Any]:
    found: dict[str, Any] = kit.events("transition")[-1]["data"]["campaign"]
    return found


def confirmed(kit: LabKit) -> list[str]:
    return [line["data"]["confirmation"]["outcome"] for line in kit.events("confirmed")]


def replayed(kit: LabKit, *iterations: str) -> None:
    for name in iterations:
        ended = kit.autolab("replay", name)
        assert ended.code == 0, ended.out + ended.err
        assert "the same decisions: " in ended.out and "nothing sent" in ended.out


# Two batches and a claim


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, StandIn]:
    kit = explorer(tmp_path_factory.mktemp("story"))
    with StandIn([*batch_of(steeper=3.0, flat=1.0), *batch_of(steepest=4.0, level=1.5)]) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "2")
    assert ended.code == 0, ended.out + ended.err
    return Kept(kit), server


def test_a_model_is_asked_three_times_an_idea_and_for_no_design_report_or_decision(
    story: tuple[Kept, StandIn],
) -> None:
    kept, server = story
    one_batch = ["hypothesis"] * 2 + ["implementation"] * 2 + ["implementation_review"] * 2
    assert kinds(server) == one_batch * 2
    assert names(kept.kit) == ["batch1", "batch2", "claim1"]
    assert confirmed(kept.kit) == ["kept"]
    assert kept.kit.git("rev-parse", "autolab/champion") == kept.kit.git("rev-parse", "exp/h3-steepest")


def test_a_prompt_tells_the_place_in_the_batch_its_ideas_and_what_the_unclaimed_base_holds(
    story: tuple[Kept, StandIn],
) -> None:
    kept, server = story
    first, second, third, fourth = prompts(server, "hypothesis")
    for prompt, place in ((first, 1), (second, 2), (third, 1), (fourth, 2)):
        assert f"This idea is number {place} of a batch of 2." in prompt
    for prompt in (first, third):
        assert "Already in the batch" not in prompt
    assert "give another:\n- steeper\n" in second and "give another:\n- steepest\n" in fourth
    for prompt in (first, second):
        assert "is provisional: " not in prompt
    step, base = kept.kit.git("rev-parse", "exp/h1-steeper")[:7], kept.kit.git("rev-parse", "HEAD")[:7]
    for prompt in (third, fourth):
        assert f"The base {step} is provisional: {base} with these unclaimed steps," in prompt
        assert re.search(r"(?m)^- steeper: gain 0\.07\d*, n = 1$", prompt)
        assert re.search(r"(?m)^- 1\. flat .*: inconclusive, dropped \(screened\); gain -0\.1", prompt)


def test_a_campaign_with_a_model_is_replayed_without_a_service(story: tuple[Kept, StandIn]) -> None:
    replayed(story[0].back(), "batch1", "batch2", "claim1")


# Bad ideas


def test_bad_ideas_of_a_batch_do_not_spoil_the_others(tmp_path: Path) -> None:
    """The model talks, repeats an idea, and writes an edit that does not apply; a reviewer blocks another idea."""
    kit = explorer(tmp_path, arms=4)
    edit = {"path": "models/width.py", "search": "HEIGHT", "replace": "WIDTH"}
    broken = reply("implementation", {"plan": "Higher.", "edits": [edit]}, times=2)
    blocking = {"check": "scope", "severity": "blocking", "file": None, "message": "not in scope"}
    script = [
        *(
            proposed("steeper"),
            reply("hypothesis", text="I would say", times=1),
            proposed("Steeper!"),
            proposed("broken"),
        ),
        *(proposed("unfair"), proposed("flat")),
        *(written("steeper", 3.0), written("unfair", 3.5), written("flat", 1.0)),
        broken | {"when": asks_for("implementation", "broken")},
        reply("implementation_review", review(blocking)["output"])
        | {"when": asks_for("implementation_review", "unfair")},
        PASSES,
    ]
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert {title: fate for title, fate in fates(kit).items() if not title.startswith("Claim")} == {
        "steeper": ("provisional", "screened"),
        "broken": ("dropped", "failed"),
        "unfair": ("dropped", "review"),
        "flat": ("dropped", "screened"),
    }
    assert "the batch has this idea already; give another" in prompts(server, "hypothesis")[3]
    (dropped, _) = kit.events("idea_dropped")
    assert "the text to replace stands there 0 times" in dropped["data"]["detail"]
    assert confirmed(kit) == ["kept"]
    replayed(kit, "batch1")


# Budgets


def test_tokens_that_allow_no_further_idea_end_the_loop_with_its_claim_and_more_let_it_go_on(tmp_path: Path) -> None:
    """Six calls of 10,000 tokens bring a step; the seventh could pass the cap, and the claim needs none."""
    kit = explorer(tmp_path, tokens=75_000)
    script = costly(*batch_of(steeper=3.0, flat=1.0), *batch_of(steepest=4.0, level=1.5))
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "9")
        assert ended.code == 4, ended.out + ended.err
        assert "loop ended: budget: tokens: 60,000 used" in ended.out
        assert len(server.requests) == 6, "nothing was sent that could pass the cap"
        assert confirmed(kit) == ["kept"]
        assert kit.git("rev-parse", "autolab/champion") == kit.git("rev-parse", "exp/h1-steeper")
        configure(kit, budget={"trials": TRIALS, "tokens": 1_000_000})
        assert kit.autolab("review", "retry").code == 0
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert len(server.requests) == 12 and confirmed(kit) == ["kept", "kept"]
    assert campaign(kit)["trials"] <= TRIALS


def test_dollars_that_end_between_two_ideas_of_a_batch_end_the_loop_with_its_claim(tmp_path: Path) -> None:
    """Seven calls of a dollar; the next could take almost two, so that the second batch has one idea and no code."""
    kit = explorer(tmp_path, dollars=8.2)
    with StandIn(costly(*batch_of(steeper=3.0, flat=1.0), *batch_of(steepest=4.0, unasked=5.0))) as server:
        price = {"input": 100.0, "output": 100.0}
        configure(kit, researcher={"name": "llm", "model": "openai:scripted", "base_url": server.url, "price": price})
        ended = kit.autolab("loop", "--max-iterations", "9")
    assert ended.code == 4, ended.out + ended.err
    assert "loop ended: budget: dollars: 7.0000 used" in ended.out
    assert len(server.requests) == 7 and campaign(kit)["dollars"] == pytest.approx(7.0)
    assert fates(kit)["steepest"] == ("dropped", "failed") and "unasked" not in fates(kit)
    assert confirmed(kit) == ["kept"]
    replayed(kit, "batch2")


def test_a_cap_between_two_implementations_measures_what_is_paid_and_then_claims(tmp_path: Path) -> None:
    kit = explorer(tmp_path, tokens=88_000)
    script = costly(*batch_of(steeper=3.0, flat=1.0), *batch_of(steepest=4.0, unpaid=5.0))
    # A short review still fits where another implementation does not.
    cheap = PASSES | {"usage": {"input": 10, "output": 0}}
    with StandIn([cheap, *script]) as server:
        critic = {"name": "llm", "model": "openai:critic", "base_url": server.url, "max_tokens": 100}
        configure(kit, reviewer=critic)
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "9")
    assert ended.code == 4, ended.out + ended.err
    (dropped,) = kit.events("idea_dropped")
    assert dropped["data"]["arm"] == "h4-unpaid" and dropped["data"]["detail"].startswith("budget: tokens: ")
    assert fates(kit)["steepest"] == ("provisional", "screened")
    assert kinds(server).count("implementation") == 3 and campaign(kit)["tokens"] <= 88_000
    assert confirmed(kit) == ["kept"]
    replayed(kit, "batch2")


# Killed


def test_killed_in_mid_batch_the_same_command_asks_nothing_twice(tmp_path: Path) -> None:
    """Between the two implementations: the first is a candidate, the reply to the second is kept and not read."""
    kit = explorer(tmp_path)
    with StandIn(batch_of(steeper=3.0, flat=1.0)) as server:
        words = ("loop", *model_flags(server), "--max-iterations", "1")
        # The second process begins where the first one ended: its first reply is that to the second implementation.
        for point in ("candidate.after_pin", "call.after_reply"):
            killed = kit.autolab(*words, AUTOLAB_FAULT=point)
            assert killed.code == -9, killed.out + killed.err
        assert kinds(server) == ["hypothesis"] * 2 + ["implementation"] * 2
        ended = kit.autolab(*words)
    assert ended.code == 0, ended.out + ended.err
    assert len(server.requests) == 6 and confirmed(kit) == ["kept"]
    assert fates(kit)["steeper"] == ("provisional", "screened") and fates(kit)["flat"] == ("dropped", "screened")
    assert kit.autolab("verify").code == 0
    replayed(kit, "batch1")


# A coding agent

AGENT = '''#!/usr/bin/env python3
"""Proposes a slope for each place of a batch, writes it, and passes it."""
import json, re, sys
from pathlib import Path

prompt = Path(sys.argv[1]).read_text()
stage = re.findall(r"(?m)^stage: (\\w+)$", prompt)[-1]
output = {"findings": []}
if stage == "hypothesis":
    place = re.search(r"number (\\d) of a batch of 2", prompt)[1]
    output = {"title": f"slope {place}", "mechanism": "m", "success": "s", "risk_bounds": ["none"]}
if stage == "implementation":
    place = re.search(r"title: slope (\\d)", prompt)[1]
    Path("models/width.py").write_text(f"WIDTH = {place}.5\\n")
    output = {"plan": "Set the slope."}
Path(".autolab").mkdir(exist_ok=True)
result = {"status": "complete", "summary": stage, "changed_files": [], "completion_token_seen": True}
Path(".autolab/agent_result.json").write_text(json.dumps(result | {"output": output}))
'''


def test_a_coding_agent_gives_a_batch_each_idea_in_a_folder_of_its_own(tmp_path: Path) -> None:
    kit = explorer(tmp_path)
    agent = tmp_path / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    configure(kit, researcher={"name": "command", "command": f"{agent} {{prompt_file}}"})
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert (fates(kit)["slope 1"], fates(kit)["slope 2"]) == (("dropped", "screened"), ("provisional", "screened"))
    assert [line["data"]["kind"] for line in kit.events("answered")] == [
        *(["hypothesis"] * 2 + ["implementation"] * 2 + ["implementation_review"] * 2)
    ]
    for arm, width in (("h1-slope-1", 1.5), ("h2-slope-2", 2.5)):
        assert kit.git("show", f"exp/{arm}:models/width.py") == f"WIDTH = {width}\n"
    assert confirmed(kit) == ["kept"]
    replayed(kit, "batch1")


def test_killed_after_an_idea_was_dropped_the_next_one_keeps_its_own_answer(tmp_path: Path) -> None:
    elsewhere = {"plan": "", "edits": [{"path": "models/width.py", "search": "not there", "replace": ""}]}
    told = [proposed("broken"), proposed("steeper")]
    told += [
        reply("implementation", elsewhere, times=2),
        reply("implementation", implementation(3.0)["output"], times=2),
    ]
    arrived, release = threading.Event(), threading.Event()

    def answer(asked: ReceivedRequest) -> ScriptedReply | None:
        if asked.number == 5:
            arrived.set()
            release.wait(60)
        return None

    kit = explorer(tmp_path)
    with StandIn([*told, PASSES], answer=answer) as server:
        words = ("loop", *model_flags(server), "--max-iterations", "1")
        running = kit.start(*words)
        assert arrived.wait(60)
        running.kill()
        running.communicate()
        release.set()
        ended = kit.autolab(*words)
        assert ended.code == 0, ended.out + ended.err
        assert len(server.requests) == 7
    assert fates(kit)["broken"] == ("dropped", "failed")
    assert fates(kit)["steeper"] == ("provisional", "screened")
    replayed(kit, "1")


def test_a_bad_idea_does_not_end_the_asking_for_the_others(tmp_path: Path) -> None:
    kit = explorer(tmp_path, arms=3)
    told = [proposed("steeper"), reply("hypothesis", text="I would rather talk.", times=4), proposed("steepest")]
    told += [written("steeper", 3.0), written("steepest", 4.0), PASSES]
    with StandIn(told) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
        assert ended.code == 0, ended.out + ended.err
        last = prompts(server, "hypothesis")[-1]
    assert set(fates(kit)) >= {"steeper", "steepest"}
    assert "idea is number 3 of a batch of 3" in last and "I would rather talk" not in last
    assert [path.parent.name for path in sorted(kit.iterations()[0].glob("arms/*/hypothesis.md"))] == [
        "h1-steeper",
        "h2-steepest",
    ]
