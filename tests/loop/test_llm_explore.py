"""Mode `explore` with a language model or a coding agent, through the command line: prompts, bad ideas, budgets."""

from __future__ import annotations

import json
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


def idea(title: str, **more: Any) -> dict[str, Any]:
    output: dict[str, Any] = hypothesis(title, **more)["output"]
    return output


def proposed(*ideas: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    """One answer that holds these ideas, each a title or as it is."""
    whole = [idea(one) if isinstance(one, str) else one for one in ideas]
    return reply("hypothesis", {"ideas": whole}, **more)


def alone(title: str, **more: Any) -> dict[str, Any]:
    """An answer that holds one idea, and no list."""
    return reply("hypothesis", idea(title), **more)


def written(title: str, width: float) -> dict[str, Any]:
    """The code of one idea, whichever batch it is asked in."""
    return reply("implementation", implementation(width)["output"]) | {"when": asks_for("implementation", title)}


def asks_for(stage: str, title: str) -> str:
    return rf"(?ms)^stage: {stage}$.*^title: {title}$"


def batch_of(**widths: float) -> list[dict[str, Any]]:
    """What a model says of a batch: an idea for each title, and its code."""
    return [proposed(*widths), *(written(title, width) for title, width in widths.items()), PASSES]


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


def test_a_model_is_asked_once_a_batch_twice_an_idea_and_for_no_design_report_or_decision(
    story: tuple[Kept, StandIn],
) -> None:
    kept, server = story
    one_batch = ["hypothesis"] + ["implementation"] * 2 + ["implementation_review"] * 2
    assert kinds(server) == one_batch * 2
    assert names(kept.kit) == ["batch1", "batch2", "claim1"]
    assert confirmed(kept.kit) == ["kept"]
    assert kept.kit.git("rev-parse", "autolab/champion") == kept.kit.git("rev-parse", "exp/h3-steepest")


def test_a_prompt_tells_how_many_ideas_are_wanted_and_what_the_unclaimed_base_holds(
    story: tuple[Kept, StandIn],
) -> None:
    kept, server = story
    first, second = prompts(server, "hypothesis")
    for prompt in (first, second):
        assert (
            "how many ideas are wanted: 2, in one answer: `ideas` is a list of them, of different mechanisms" in prompt
        )
        assert "Give the ideas 1 to 2 in one answer, as the list `ideas`: they are of a batch of 2." in prompt
        assert "Already in the batch" not in prompt
        schema = next(line for line in prompt.splitlines() if line.startswith('{"') and "additionalProperties" in line)
        of_an_idea = json.loads(schema)["properties"]["ideas"]["items"]
        assert {"title", "mechanism", "model_config"} <= set(of_an_idea["properties"])
    assert "is provisional: " not in first
    step, base = kept.kit.git("rev-parse", "exp/h1-steeper")[:7], kept.kit.git("rev-parse", "HEAD")[:7]
    assert f"The base {step} is provisional: {base} with these unclaimed steps, newest first." in second
    assert re.search(r"(?m)^- steeper: gain \+0\.07\d* in 1 pairs$", second)
    assert re.search(r"(?m)^- h2\. flat .* -> dropped: gain -0\.1", second)
    assert [line["data"].get("ideas") for line in kept.kit.events("asked") if line["data"]["kind"] == "hypothesis"] == [
        2,
        2,
    ]


def test_a_campaign_with_a_model_is_replayed_without_a_service(story: tuple[Kept, StandIn]) -> None:
    replayed(story[0].back(), "batch1", "batch2", "claim1")


# Bad ideas


def test_bad_ideas_of_a_batch_do_not_spoil_the_others(tmp_path: Path) -> None:
    """The model repeats an idea and names keys of its own, and writes an edit that does not apply; a review blocks."""
    kit = explorer(tmp_path, arms=4)
    edit = {"path": "models/width.py", "search": "HEIGHT", "replace": "WIDTH"}
    # Each of two requests, and once more in its conversation.
    broken = reply("implementation", {"plan": "Higher.", "edits": [edit]}, times=4)
    blocking = {"check": "scope", "severity": "blocking", "file": None, "message": "not in scope"}
    script = [
        proposed("steeper", "Steeper!", idea("talks", thoughts="I would say"), "broken"),
        # More than are missing: the first that fit are taken.
        proposed("BROKEN", "unfair", "flat", "too many"),
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
    first, second = prompts(server, "hypothesis")
    assert "Give the ideas 1 to 4 in" in first and "Steeper!" not in first
    assert "Give the ideas 3 to 4 in" in second and "how many ideas are wanted: 2, in one answer" in second
    assert "give another:\n- steeper\n- broken\n" in second
    assert "hypothesis: 2 of 4 ideas can be tested; idea 2 (Steeper!): the batch has this idea already" in second
    assert "idea 3: thoughts: unknown key" in second
    assert "  1 more than were asked for: left out" in ended.out
    (dropped, _) = kit.events("idea_dropped")
    assert "the text to replace stands there 0 times" in dropped["data"]["detail"]
    assert confirmed(kit) == ["kept"]
    replayed(kit, "batch1")


def test_an_answer_of_bad_ideas_alone_goes_back_at_once_and_the_batch_begins_with_the_next(tmp_path: Path) -> None:
    """None of the ideas can be read: the model is told in the same conversation. Then all of them repeat one."""
    kit = explorer(tmp_path)
    script = [
        proposed(idea("a", colour="red"), {"title": "b"}),
        proposed("steeper", "flat"),
        *(written("steeper", 3.0), written("flat", 1.0), PASSES),
    ]
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    first, second = prompts(server, "hypothesis")
    assert second.startswith(first[:1000]), "it is the same conversation"
    assert "idea 1: colour: unknown key; idea 2: mechanism: missing" in second.replace("\\", "")
    assert len(kit.events("transition")) and [line["data"]["kind"] for line in kit.events("asked")][:2] == [
        "hypothesis",
        "implementation",
    ]
    replayed(kit, "batch1")


def test_a_batch_that_stays_short_goes_on_with_the_ideas_that_it_has(tmp_path: Path) -> None:
    kit = explorer(tmp_path, arms=3)
    script = [
        proposed("steeper", "steeper", "Steeper"),
        proposed(
            "STEEPER", idea("speedy", direction="maximize", metric="speed"), idea("alien", metric="speed"), "other"
        ),
        *(written("steeper", 3.0), written("other", 1.0), PASSES),
    ]
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert kinds(server).count("hypothesis") == 2, "each batch asks once more, and not for ever"
    said = (
        "  the batch goes on with 2 of 3 ideas: hypothesis: 1 of 2 ideas can be tested; idea 1 (STEEPER): the batch has"
    )
    assert said in ended.out
    assert "idea 2 (speedy): metric: speed (maximize), but a batch is measured by val_loss (minimize)" in ended.out
    assert "idea 3 (alien): direction: missing for speed, which is" in ended.out
    assert set(fates(kit)) >= {"steeper", "other"} and "alien" not in fates(kit)
    replayed(kit, "batch1")


def test_a_model_that_gives_one_idea_at_a_time_fills_the_batch_too(tmp_path: Path) -> None:
    kit = explorer(tmp_path, arms=3)
    script = [alone("steeper"), alone("flat"), alone("flatter")]
    script += [written("steeper", 3.0), written("flat", 1.0), written("flatter", 0.9), PASSES]
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    first, second, third = prompts(server, "hypothesis")
    assert "how many ideas are wanted: 3, in" in first and "how many ideas are wanted: 2, in" in second
    assert "how many ideas are wanted: one. If" in third and '"ideas"' not in third
    assert set(fates(kit)) >= {"steeper", "flat", "flatter"}
    replayed(kit, "batch1")


def test_ideas_that_come_first_are_not_asked_for(tmp_path: Path) -> None:
    kit = explorer(tmp_path, arms=3)
    script = [*batch_of(steep=2.5, steeper=3.0, flat=1.0)[:-1], *batch_of(steepest=4.0, flatter=0.9)]
    again = written("steep", 2.6)
    with StandIn([*script, again]) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "2")
    assert ended.code == 0, ended.out + ended.err
    _, second = prompts(server, "hypothesis")
    assert "Give the ideas 2 to 3 in" in second and "give another:\n- steep\n" in second
    assert [path.parent.name for path in sorted(kit.iterations()[1].glob("arms/*/hypothesis.md"))] == [
        *("h4-steep", "h5-steepest", "h6-flatter")
    ]
    replayed(kit, "batch1", "batch2")


# Ideas with their code


def coded(title: str, width: float | str, **more: Any) -> dict[str, Any]:
    """An idea with its code."""
    edit = {"path": "models/width.py", "search": "WIDTH = 2.0", "replace": f"WIDTH = {width}"}
    return idea(title, implementation={"plan": f"Set the slope to {width}.", "edits": [edit], **more})


@pytest.fixture(scope="module")
def with_code(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, StandIn]:
    """Four ideas in one answer: one has good code, one an edit that does not apply, one breaks a rule, one has none."""
    kit = explorer(tmp_path_factory.mktemp("coded"), arms=4)
    elsewhere = [{"path": "models/width.py", "search": "HEIGHT", "replace": "WIDTH"}]
    script = [
        proposed(
            coded("steeper", 3.0),
            coded("astray", 3.0, edits=elsewhere),
            coded("outside", 3.0, edits=[], files=[{"path": "eval.py", "content": "print(1)\n"}]),
            "later",
        ),
        *(written("astray", 2.5), written("outside", 1.0), written("later", 1.5), PASSES),
    ]
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    return Kept(kit), server


def test_code_that_comes_with_an_idea_takes_the_way_of_every_code_and_costs_no_request(
    with_code: tuple[Kept, StandIn],
) -> None:
    kit, server = with_code[0].kit, with_code[1]
    assert kinds(server) == ["hypothesis"] + ["implementation"] * 3 + ["implementation_review"] * 4
    assert "If its code is a few edits, give it with the idea as `implementation`" in prompts(server, "hypothesis")[0]
    assert kit.git("show", "exp/h1-steeper:models/width.py") == "WIDTH = 3.0\n"
    first = kit.iterations()[0] / "arms" / "h1-steeper"
    assert "Set the slope to 3.0." in (first / "implementation_plan.md").read_text()
    candidates = {line["data"]["slug"]: line["data"]["via"] for line in kit.events("candidate")}
    assert candidates["h1-steeper"] == "llm openai:scripted"
    assert fates(kit)["steeper"] == ("provisional", "screened")
    assert confirmed(kit) == ["kept"]


def test_code_of_an_idea_that_cannot_be_used_is_asked_for_with_the_reason(with_code: tuple[Kept, StandIn]) -> None:
    kit, server = with_code[0].kit, with_code[1]
    astray, outside, later = prompts(server, "implementation")
    assert "the code that came with the idea: edit of models/width.py: the text to replace stands there 0" in astray
    assert '"search": "HEIGHT"' in astray, "what was refused is shown"
    assert "the code that came with the idea: eval.py" in outside
    assert "came with the idea" not in later
    for arm, width in (("h2-astray", 2.5), ("h3-outside", 1.0), ("h4-later", 1.5)):
        assert kit.git("show", f"exp/{arm}:models/width.py") == f"WIDTH = {width}\n"
    assert kit.events("idea_dropped") == []


def test_ideas_with_code_are_replayed_and_a_damaged_change_comes_back(with_code: tuple[Kept, StandIn]) -> None:
    kit = with_code[0].back()
    replayed(kit, "batch1", "claim1")
    change = kit.iterations()[0] / "arms" / "h1-steeper" / "change.json"
    before = change.read_bytes()
    change.write_text("{")
    checked = kit.autolab("verify")
    assert checked.code == 1 and "h1-steeper/change.json" in checked.out + checked.err
    kit.autolab("doctor", "--fix")
    assert change.read_bytes() == before and kit.autolab("verify").code == 0


def test_code_of_a_runner_up_is_asked_for_anew_where_it_does_not_fit_the_new_base(tmp_path: Path) -> None:
    """Both edit the line that the step has changed, so that they are asked for anew; the new idea brings its code."""
    kit = explorer(tmp_path, arms=3)
    on_step = [{"path": "models/width.py", "search": "WIDTH = 3.0", "replace": "WIDTH = 3.3"}]
    script = [
        proposed(coded("steeper", 3.0), coded("second", 2.8), coded("along", 2.5)),
        reply("hypothesis", coded("third", 3.3, edits=on_step)),
        *(written("second", 3.2), written("along", 3.1), PASSES),
    ]
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "2")
    assert ended.code == 0, ended.out + ended.err
    asked = prompts(server, "implementation")
    assert [re.findall(r"(?m)^title: (.*)$", prompt)[0] for prompt in asked] == ["second", "along"]
    assert kit.git("show", "exp/h6-third:models/width.py") == "WIDTH = 3.3\n"
    assert "the code that came with the idea: edit of models/width.py" in asked[0]
    replayed(kit, "batch1", "batch2")


def test_killed_at_every_point_of_the_writing_code_of_ideas_becomes_one_candidate_each(tmp_path: Path) -> None:
    kit, log = explorer(tmp_path, arms=2), tmp_path / "points.txt"
    assert kit.autolab("calibrate").code == 0
    astray = coded("astray", 3.0, edits=[{"path": "models/width.py", "search": "HEIGHT", "replace": "WIDTH"}])
    with StandIn([proposed(astray, coded("steeper", 3.0)), written("astray", 2.5), PASSES]) as server:
        configure(kit, researcher={"name": "llm", "model": "openai:scripted", "base_url": server.url})
        for _ in range(2):
            assert kit.autolab("run").code == 0
        for fault in range(1, 200):
            ended = kit.autolab("run", AUTOLAB_FAULT=str(fault), AUTOLAB_FAULT_LOG=str(log))
            assert ended.code in (0, -9), ended.out + ended.err
            if kit.events("transition")[-1]["data"]["state"]["stage"] != "implementation":
                break
        assert kinds(server) == ["hypothesis", "implementation"]
        assert {"candidate.after_pin", "worktree.after_edit", "call.after_reply"} <= set(log.read_text().split())
        assert [line["data"]["slug"] for line in kit.events("candidate")] == ["h1-astray", "h2-steeper"]
        ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert confirmed(kit) == ["kept"] and kit.autolab("verify").code == 0
    replayed(kit, "batch1")


# Budgets


def test_tokens_that_allow_no_further_idea_end_the_loop_with_its_claim_and_more_let_it_go_on(tmp_path: Path) -> None:
    """Five calls of 10,000 tokens bring a step; the sixth could pass the cap, and the claim needs none."""
    kit = explorer(tmp_path, tokens=65_000)
    script = costly(*batch_of(steeper=3.0, flat=1.0), *batch_of(steepest=4.0, level=1.5))
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "9")
        assert ended.code == 4, ended.out + ended.err
        assert "loop ended: budget: tokens: 50,000 used" in ended.out
        assert len(server.requests) == 5, "nothing was sent that could pass the cap"
        assert names(kit) == ["batch1", "batch2", "claim1"], "no other batch is opened that cannot be paid"
        assert confirmed(kit) == ["kept"]
        assert kit.git("rev-parse", "autolab/champion") == kit.git("rev-parse", "exp/h1-steeper")
        configure(kit, budget={"trials": TRIALS, "tokens": 1_000_000})
        assert kit.autolab("review", "retry").code == 0
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert len(server.requests) == 10 and confirmed(kit) == ["kept", "kept"]
    assert campaign(kit)["trials"] <= TRIALS


def test_dollars_that_end_between_two_ideas_of_a_batch_end_the_loop_with_its_claim(tmp_path: Path) -> None:
    """Six calls of a dollar; the next could take almost two, so that the second batch has one idea and no code."""
    kit = explorer(tmp_path, dollars=7.2)
    script = costly(*batch_of(steeper=3.0, flat=1.0), proposed("steepest", "steepest"), proposed("unasked"))
    with StandIn(script) as server:
        price = {"input": 100.0, "output": 100.0}
        configure(kit, researcher={"name": "llm", "model": "openai:scripted", "base_url": server.url, "price": price})
        ended = kit.autolab("loop", "--max-iterations", "9")
    assert ended.code == 4, ended.out + ended.err
    assert "loop ended: budget: dollars: 6.0000 used" in ended.out
    assert len(server.requests) == 6 and campaign(kit)["dollars"] == pytest.approx(6.0)
    assert fates(kit)["steepest"] == ("dropped", "budget") and "unasked" not in fates(kit)
    assert confirmed(kit) == ["kept"]
    replayed(kit, "batch2")


def test_a_cap_between_two_implementations_measures_what_is_paid_and_then_claims(tmp_path: Path) -> None:
    kit = explorer(tmp_path, tokens=68_000)
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
    assert dropped["data"]["reason"] == "budget" and len(kit.events("asked")) == len(kit.events("answered")) + 1
    assert fates(kit)["steepest"] == ("provisional", "screened")
    assert kinds(server).count("implementation") == 3 and campaign(kit)["tokens"] <= 68_000
    assert confirmed(kit) == ["kept"]
    replayed(kit, "batch2")


def test_an_idea_that_a_budget_left_out_comes_first_once_there_is_more(tmp_path: Path) -> None:
    """Nothing gains in the first batch, whose second idea has no code: with more tokens it is written and measured."""
    kit = explorer(tmp_path, tokens=38_000)
    script = costly(*batch_of(flat=1.0, unpaid=5.0)[:-1], *batch_of(flatter=0.9)[1:-1])
    cheap = PASSES | {"usage": {"input": 10, "output": 0}}
    with StandIn([cheap, *script, *costly(alone("flatter"))]) as server:
        critic = {"name": "llm", "model": "openai:critic", "base_url": server.url, "max_tokens": 100}
        configure(kit, reviewer=critic)
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
        assert ended.code == 4, ended.out + ended.err
        assert "loop ended: budget: tokens: 20,000 used" in ended.out
        assert fates(kit)["unpaid"] == ("dropped", "budget") and fates(kit)["flat"] == ("dropped", "screened")
        assert [one["arm"] for one in campaign(kit)["exploration"]["first"]] == ["h2-unpaid"]
        configure(kit, budget={"trials": TRIALS, "tokens": 1_000_000})
        assert kit.autolab("review", "retry").code == 0
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert [path.parent.name for path in sorted(kit.iterations()[1].glob("arms/*/hypothesis.md"))] == [
        *("h3-unpaid", "h4-flatter")
    ]
    assert fates(kit)["unpaid"][0] == "provisional"
    replayed(kit, "batch1", "batch2")


def test_the_last_batch_of_a_loop_that_no_budget_paid_for_has_the_budgets_exit_code(tmp_path: Path) -> None:
    """After the first batch another idea could pass the cap. Nothing is claimed, as nothing gained."""
    kit = explorer(tmp_path, tokens=65_000)
    with StandIn(costly(*batch_of(flat=1.0, flatter=0.9))) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "2")
    assert ended.code == 4, ended.out + ended.err
    assert "loop ended: budget: tokens: 50,000 used" in ended.out and confirmed(kit) == []


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
        assert kinds(server) == ["hypothesis"] + ["implementation"] * 2
        ended = kit.autolab(*words)
    assert ended.code == 0, ended.out + ended.err
    assert len(server.requests) == 5 and confirmed(kit) == ["kept"]
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
    first, last = re.search(r"Give the ideas (\\d) to (\\d) in", prompt).groups()
    fields = {"mechanism": "m", "success": "s", "risk_bounds": ["none"]}
    output = {"ideas": [{"title": f"slope {place}", **fields} for place in range(int(first), int(last) + 1)]}
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
        *(["hypothesis"] + ["implementation"] * 2 + ["implementation_review"] * 2)
    ]
    for arm, width in (("h1-slope-1", 1.5), ("h2-slope-2", 2.5)):
        assert kit.git("show", f"exp/{arm}:models/width.py") == f"WIDTH = {width}\n"
    assert confirmed(kit) == ["kept"]
    replayed(kit, "batch1")


def test_killed_after_an_idea_was_dropped_the_next_one_keeps_its_own_answer(tmp_path: Path) -> None:
    elsewhere = {"plan": "", "edits": [{"path": "models/width.py", "search": "not there", "replace": ""}]}
    told = [proposed("broken", "steeper")]
    told += [
        # Each of two requests, and once more in its conversation.
        reply("implementation", elsewhere, times=4),
        reply("implementation", implementation(3.0)["output"], times=2),
    ]
    arrived, release = threading.Event(), threading.Event()

    def answer(asked: ReceivedRequest) -> ScriptedReply | None:
        if asked.number == 6:
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
        assert len(server.requests) == 8
    assert fates(kit)["broken"] == ("dropped", "failed")
    assert fates(kit)["steeper"] == ("provisional", "screened")
    replayed(kit, "1")


@pytest.mark.slow
def test_killed_at_every_point_of_the_asking_the_batch_has_the_same_ideas_and_nothing_is_asked_twice(
    tmp_path: Path,
) -> None:
    """Each try dies one point later than the one before it, so that half of the ideas may be there already."""
    kit, log = explorer(tmp_path, arms=4), tmp_path / "points.txt"
    assert kit.autolab("calibrate").code == 0
    script = [proposed("steeper", "Steeper!", "flat", idea("bad", colour="red")), proposed("flatter", "level")]
    written_so_far: set[int] = set()
    with StandIn(
        [*script, *(written(title, 2.0) for title in ("steeper", "flat", "flatter", "level")), PASSES]
    ) as server:
        configure(kit, researcher={"name": "llm", "model": "openai:scripted", "base_url": server.url})
        for fault in ("artifact.after_write", *map(str, range(1, 200))):
            ended = kit.autolab("run", AUTOLAB_FAULT=fault, AUTOLAB_FAULT_LOG=str(log))
            assert ended.code in (0, -9), ended.out + ended.err
            written_so_far.add(len(list(kit.root.glob("experiments/*/arms/*/hypothesis.md"))))
            if ended.code == 0:
                break
        assert kinds(server) == ["hypothesis"] * 2
        assert [path.parent.name for path in sorted(kit.iterations()[0].glob("arms/*/hypothesis.md"))] == [
            *("h1-steeper", "h2-flat", "h3-flatter", "h4-level")
        ]
        assert {1, 2, 4} <= written_so_far
        assert {"request.after_intent", "call.after_reply", "artifact.after_write"} <= set(log.read_text().split())
        assert len(kit.events("answered")) == 2 and campaign(kit)["hypotheses"] == 4
        ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert kit.autolab("verify").code == 0
    replayed(kit, "batch1")
