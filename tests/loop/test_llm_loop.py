"""A loop that thinks with a language model, through the command line: decisions, record, budgets, crashes, replay."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import (
    HELPS,
    LabKit,
    decision,
    design,
    docs,
    each_idea,
    hypothesis,
    implementation,
    iteration,
    make_lab,
    review,
)
from model_kit import model_flags, model_lab, replies, reply
from standin import ReceivedRequest, Script, ScriptedReply, StandIn

pytestmark = pytest.mark.process

KEPT = replies(iteration(decide_repeat=decision("stop", "it is done")))


def digits(folder: Path) -> LabKit:
    kit = LabKit(folder, folder / "none")
    made = kit.autolab("init", str(folder / "lab"), "--template", "digits", "--seed", "1")
    assert made.code == 0, made.err
    kit.root = folder / "lab"
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(yaml.safe_dump(each_idea(yaml.safe_load(path.read_text())), sort_keys=False))
    return kit


def network(name: str, channels: int, stride: int) -> dict[str, Any]:
    layers: list[dict[str, Any]] = [
        {"type": "conv", "channels": channels, "stride": stride},
        {"type": "activation", "kind": "relu"},
        *([{"type": "pool", "kind": "max"}] if stride == 1 else []),
        {"type": "flatten"},
        {"type": "linear", "units": 128},
        {"type": "activation", "kind": "relu"},
        {"type": "dropout", "p": 0.3},
    ]
    return {"name": name, "layers": layers}


NARROW, WIDER, SMALL = network("narrow_cnn", 2, 2), network("wider_cnn", 4, 2), network("small_cnn", 16, 1)
PROPOSAL = {
    "action": "propose",
    "title": "A small CNN",
    "mechanism": "Neighbouring pixels belong together.",
    "success": "val_loss falls by 0.01 or more",
    "risk_bounds": ["a training takes no more than five minutes"],
    "family": "convolution",
    "model_config": NARROW,
    "assumptions": ["a few channels are enough"],
    "notes": "the cheapest first",
}


def planned(*decisions: dict[str, Any]) -> list[dict[str, Any]]:
    """The replies of a planning model: one proposal, then a design and a decision an iteration; the engine writes."""
    told = [reply("hypothesis", PROPOSAL)]
    for decided in decisions:
        told += [
            reply("design", design("cnn")["output"]),
            reply("implementation", {"plan": "The engine writes the network from the design's model_config."}),
            reply("implementation_review", review()["output"]),
            reply("update_docs", docs(None, no_changes="nothing to add")["output"]),
            reply("decide_repeat", decided),
        ]
    return told


def refine(why: str, network: dict[str, Any]) -> dict[str, Any]:
    return {"action": "refine", "reason": why, "next_config": network}


@pytest.mark.nightly
def test_a_model_refines_twice_and_achieves_with_real_trainings(tmp_path: Path) -> None:
    """On handwritten digits; the target lies above every seed of the baseline that calibration measured."""
    kit = digits(tmp_path)
    assert kit.autolab("calibrate", timeout=300).code == 0
    measured = json.loads((kit.store / "calibration.json").read_text())
    trials = [line["data"]["trial"] for line in kit.events("trial")]
    best = max(trial["score"]["accuracy"] for trial in trials if trial["arm"] == "baseline")
    script = planned(
        refine("too few channels", WIDER),
        refine("a stride too many", SMALL),
        {"action": "achieve", "reason": "the confirmed accuracy meets the target"},
    )
    with StandIn(script) as server:
        goal = ("--goal", "Design a small CNN for digits", "--target", f"accuracy>={best + 0.001}")
        ended = kit.autolab("loop", *model_flags(server), *goal, "--max-iterations", "3", timeout=600)
    assert ended.code == 0, ended.out + ended.err
    assert "loop ended: achieve" in ended.out and measured["refused"] in (None, "")
    records = json.loads(kit.autolab("registry", "--json").out)
    assert [one["planning_decision"]["action"] for one in records] == ["refine", "refine", "achieve"]
    assert [one["outcome"] for one in records] == [None, None, "kept"], "only the last one's candidate counts"
    assert [one["model_config"]["model_config"] for one in records] == [NARROW, WIDER, SMALL]
    assert {one["assembler"]["via"] for one in records} == {"assembler"}
    assert len({one["hypothesis_id"] for one in records}) == 1 and len({one["code_checksum"] for one in records}) == 3
    for record in records:
        for said in record["llm_response"]:
            assert said["prompt"] and said["raw"]
            (call,) = said["calls"]
            assert json.loads(call["request"])["messages"][0]["role"] == "system"
            assert json.loads(call["raw"])["choices"], "the reply as it came"
            assert call["reason"] == "ok" and call["input_tokens"] > 0 and call["latency_s"] >= 0
    assert "a few channels are enough" in (kit.iterations()[0] / "hypothesis.md").read_text()


def test_a_loop_stops_at_its_number_of_iterations(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    first = replies(HELPS)
    second = replies(iteration(hypothesis=hypothesis("Steeper still"), implementation=implementation(8.0)))
    with StandIn(first + second) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "2")
    assert ended.code == 0, ended.err
    assert "loop ended: 2 of 2 iterations done" in ended.out
    assert len(kit.iterations()) == 2 and len(server.requests) == 12


def test_achieve_is_refused_where_the_metric_is_not_there(tmp_path: Path) -> None:
    """The model insists: the loop asks a user, and nothing is recorded as achieved."""
    kit = model_lab(tmp_path)
    insists = reply("decide_repeat", {"action": "achieve", "reason": "surely"}, times=0)
    script = [one for one in KEPT if "decide_repeat" not in one["when"]] + [insists]
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "3", "--target", "accuracy>=1.01")
    assert ended.code == 3, ended.out + ended.err
    assert "the same error 3 times: achieve is refused: accuracy is" in kit.state()["reason"]
    assert kit.state()["stage"] == "human_review" and not list(kit.root.glob("experiments/*/record.json"))


# Budgets


def spent(kit: LabKit) -> dict[str, Any]:
    campaign: dict[str, Any] = kit.events("transition")[-1]["data"]["campaign"]
    return campaign


def test_tokens_are_reserved_before_and_booked_after_each_call(tmp_path: Path) -> None:
    kit = model_lab(tmp_path, config={"budget": {"iterations": 50, "tokens": 1_000_000}})
    told = [one | {"usage": {"input": 1000, "output": 100}} for one in KEPT]
    with StandIn(told) as server:
        assert kit.autolab("loop", *model_flags(server), "--max-iterations", "1").code == 0
    assert spent(kit)["tokens"] == 6 * 1100
    sent, booked = kit.events("call_sent"), kit.events("call")
    assert [line["n"] < done["n"] for line, done in zip(sent, booked, strict=True)] == [True] * 6
    assert all(line["data"]["tokens"] >= 16_000 for line in sent), "the longest reply is reserved"


def test_a_cap_on_tokens_ends_the_loop_before_the_call_that_could_pass_it(tmp_path: Path) -> None:
    kit = model_lab(tmp_path, config={"budget": {"iterations": 50, "tokens": 45_000}})
    told = [one | {"usage": {"input": 9000, "output": 3000}} for one in KEPT]
    with StandIn(told) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
        assert ended.code == 4, ended.out + ended.err
        assert re.search(
            r"budget: tokens: [\d,]+ used, up to [\d,]+ wanted by the next call, 45,000 allowed", ended.out
        )
        assert spent(kit)["tokens"] == 12_000 * len(server.requests) <= 45_000
        assert kit.autolab("loop", *model_flags(server), "--max-iterations", "1").code == 1, "it stays spent"
        config = kit.root / ".autolab" / "config.yaml"
        config.write_text(config.read_text().replace("45000", "450000"))
        assert kit.autolab("review", "retry").code == 0
        went_on = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert went_on.code == 0, went_on.out + went_on.err
    assert len(server.requests) == 6, "nothing was asked twice"


def test_a_cap_reached_at_the_decision_keeps_the_iteration_until_there_is_more(tmp_path: Path) -> None:
    """What was measured and confirmed is not lost: with more budget the decision is taken, and the candidate kept."""
    kit = model_lab(tmp_path, config={"budget": {"iterations": 50, "tokens": 62_001}})
    told = [one | {"usage": {"input": 10_000, "output": 0}} for one in KEPT]
    with StandIn(told) as server:
        words = ("loop", *model_flags(server), "--max-iterations", "1")
        ended = kit.autolab(*words)
        assert ended.code == 4 and len(server.requests) == 5, ended.out + ended.err
        state = kit.state()
        assert (state["stage"], state["from_stage"]) == ("stop", "decide_repeat") and state["iteration_id"] is not None
        config = kit.root / ".autolab" / "config.yaml"
        config.write_text(config.read_text().replace("62001", "620010"))
        assert kit.autolab("review", "retry").code == 0
        assert kit.autolab(*words).code == 0
    (record,) = json.loads(kit.autolab("registry", "--json").out)
    assert record["outcome"] == "kept" and len(kit.iterations()) == 1 and len(server.requests) == 6


def test_dollars_are_counted_by_a_price_and_capped(tmp_path: Path) -> None:
    price = {"input": 10.0, "output": 100.0}
    kit = model_lab(tmp_path, config={"budget": {"iterations": 50, "dollars": 5.0}})
    told = [one | {"usage": {"input": 100_000, "output": 2000}} for one in KEPT]
    with StandIn(told) as server:
        who = {"name": "llm", "model": "openai:scripted", "base_url": server.url, "price": price}
        configure(kit, researcher=who)
        ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 4, ended.out + ended.err
    assert spent(kit)["dollars"] == pytest.approx(1.2 * len(server.requests)) and len(server.requests) == 3
    assert "dollars 4.8000 used" not in ended.out and "dollars: 3.6000 used, up to 1.6" in ended.out


def test_a_user_is_told_when_four_fifths_of_a_cap_are_spent(tmp_path: Path) -> None:
    kit = model_lab(tmp_path, config={"budget": {"iterations": 50, "tokens": 130_000}})
    told = [one | {"usage": {"input": 18_000, "output": 0}} for one in KEPT]
    with StandIn(told) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("budget: tokens 83% spent (108,000 of 130,000)") == 1


def configure(kit: LabKit, **keys: Any) -> None:
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys, sort_keys=False))


def test_an_unknown_price_is_said_and_a_cap_on_it_is_refused(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    with StandIn(KEPT) as server:
        told = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
        assert re.search("note: no (price|cost) .*openai:scripted", told.out)
        configure(kit, budget={"dollars": 1.0})
        before = len(server.requests)
        ended = kit.autolab("loop", *model_flags(server), "--goal", "more", "--max-iterations", "1")
    assert ended.code == 1 and len(server.requests) == before
    assert re.fullmatch(
        r"autolab: \.autolab/config\.yaml: budget\.dollars: the cost of llm openai:scripted .*\n", ended.err
    )


# Faults on the way


def test_a_rate_limit_is_waited_for_and_the_user_told_until_when(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    limited = reply("hypothesis", status=429, headers={"Retry-After": 1})
    with StandIn([limited, *KEPT]) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.err
    assert re.search(r"rate_limited: openai:scripted: HTTP 429: .*; waits 1 s, until \d\d:\d\d:\d\d", ended.out)
    assert [line["data"]["reason"] for line in kit.events("call")][:2] == ["rate_limited", "ok"]


def test_a_wait_ends_when_the_user_asks_to_pause_and_the_same_command_goes_on(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    limited = reply("hypothesis", status=429, headers={"Retry-After": 600})
    with StandIn([limited, *KEPT]) as server:
        words = ("loop", *model_flags(server), "--max-iterations", "1")
        running = kit.start(*words)
        assert running.stdout is not None
        for line in running.stdout:
            if "waits" in line:
                break
        status = kit.autolab("status").out
        assert re.search(r"(?m)^waiting +for openai:scripted until .* \(rate_limited: ", status), status
        assert kit.autolab("stop").code == 0
        out, err = running.communicate(timeout=60)
        assert running.returncode == 0 and re.search("paused|paused", out), out + err
        assert kit.state()["stage"] == "hypothesis"
        assert len(server.requests) == 1


def test_a_fallback_model_answers_where_the_first_cannot_be_had(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    known = Script.from_value({"models": ["here", "designer"], "replies": KEPT}, "script")
    with StandIn(known) as server:
        who = {"name": "llm", "model": "openai:gone", "fallback": "openai:here", "base_url": server.url}
        configure(kit, researcher=who | {"stages": {"design": "openai:designer"}})
        ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert "asking openai:here" in ended.out
    made = [(line["data"]["stage"], line["data"]["model"], line["data"]["reason"]) for line in kit.events("call")]
    assert made[:3] == [
        ("hypothesis", "openai:gone", "not_found"),
        ("hypothesis", "openai:here", "ok"),
        ("design", "openai:designer", "ok"),
    ]


# Another mind, another service


def test_another_model_reviews_without_the_authors_words_and_sends_back(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    blocks = review({"check": "scope", "severity": "blocking", "message": "set 4.0, not 5.0", "file": None})
    first = implementation(5.0, plan="TRUST ME, this needs no review.")
    told = iteration(
        implementation=[first, implementation(4.0)],
        implementation_review=[blocks, review()],
        decide_repeat=decision("stop"),
    )
    with StandIn(replies(told)) as server:
        critic = {"name": "llm", "model": "openai:critic", "base_url": server.url}
        configure(kit, reviewer=critic)
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert "review: set 4.0, not 5.0" in ended.out
    by = {one.number: one for one in server.requests}
    reviewed = [one for one in by.values() if "stage: implementation_review" in one.system]
    assert [one.model for one in reviewed] == ["critic", "critic"]
    assert {one.model for one in by.values() if one not in reviewed} == {"scripted"}
    for one in reviewed:
        assert "TRUST ME" not in one.text, "the diff and the design, not the author's talk"
        assert "WIDTH = " in one.text and "e1" in one.text
    (again,) = [one for one in by.values() if "stage: implementation\n" in one.system][1:]
    assert "set 4.0, not 5.0" in again.text, "the author reads what is to be fixed"
    result = json.loads((kit.iterations()[0] / "review_result.json").read_text())
    assert (result["status"], result["reviewer"]) == ("pass", "llm openai:critic")


def test_a_model_that_speaks_as_anthropic_does_walks_an_iteration(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    key = "sk-ant-" + "k3Y9" * 8
    with StandIn(Script.from_value({"key": key, "replies": KEPT}, "script")) as server:
        who = {"name": "llm", "model": "anthropic:scripted", "base_url": server.url, "api_key_env": "MY_KEY"}
        configure(kit, researcher=who)
        ended = kit.autolab("loop", "--max-iterations", "1", MY_KEY=key)
    assert ended.code == 0, ended.out + ended.err
    assert len(server.requests) == 6 and all(one.path == "/v1/messages" and one.key for one in server.requests)
    assert key not in ended.out + ended.err
    held = [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert held == [], "a key is in the environment and nowhere else"


# Killed, and gone through again


@pytest.mark.parametrize(
    ("point", "paid"),
    [("request.after_intent", 6), ("call.after_intent", 6), ("call.after_reply", 6), ("call.after_book", 6)],
)
def test_killed_at_a_call_the_same_command_asks_nothing_twice(tmp_path: Path, point: str, paid: int) -> None:
    kit = model_lab(tmp_path)
    with StandIn(KEPT) as server:
        words = ("loop", *model_flags(server), "--max-iterations", "1")
        killed = kit.autolab(*words, AUTOLAB_FAULT=point)
        assert killed.code == -9, killed.out + killed.err
        ended = kit.autolab(*words)
        assert ended.code == 0, ended.out + ended.err
        assert len(server.requests) == paid
    assert kit.autolab("verify").code == 0


def test_killed_while_the_model_thinks_at_most_one_call_is_paid_twice(tmp_path: Path) -> None:
    """The service has the request, the engine dies: that call alone is made again, and booked as lost."""
    kit = model_lab(tmp_path)
    arrived, release = threading.Event(), threading.Event()

    def answer(asked: ReceivedRequest) -> ScriptedReply | None:
        if asked.number == 2:
            arrived.set()
            release.wait(60)
        return None

    script = [KEPT[0], KEPT[1], *KEPT[1:]]  # the design is thought of twice
    with StandIn(script, answer=answer) as server:
        words = ("loop", *model_flags(server), "--max-iterations", "1")
        running = kit.start(*words)
        assert arrived.wait(60)
        running.kill()
        running.communicate()
        release.set()
        ended = kit.autolab(*words)
        assert ended.code == 0, ended.out + ended.err
        assert len(server.requests) == 7
    calls = [(line["data"]["stage"], line["data"]["call"], line["data"]["reason"]) for line in kit.events("call")]
    assert calls[:3] == [("hypothesis", 1, "ok"), ("design", 1, "lost"), ("design", 2, "ok")] and len(calls) == 7
    lost = kit.events("call")[1]["data"]
    assert lost["input_tokens"] >= 16_000, "what may have been paid counts as it was reserved"
    replayed = kit.autolab("replay", "1")
    assert replayed.code == 0 and "the same decisions" in replayed.out, replayed.out + replayed.err


def test_every_received_reply_is_on_record_with_its_prompt(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    script = [reply("hypothesis", text="I think that a steeper slope helps."), *KEPT]
    with StandIn(script) as server:
        assert kit.autolab("loop", *model_flags(server), "--max-iterations", "1").code == 0
        for asked, line in zip(server.requests, kit.events("call"), strict=True):
            data = line["data"]
            kept = kit.store / data["path"]
            request = json.loads(kept.with_name(f"{data['call']}.request.json").read_text())
            assert request["messages"][-1]["content"] == asked.messages[-1]["content"]
            assert hashlib.sha256(kept.read_bytes()).hexdigest() == data["sha256"]
            assert json.loads(json.loads(kept.read_text())["body"])["choices"]
    reasons = [line["data"]["reason"] for line in kit.events("call")]
    assert reasons == ["not_json", *["ok"] * 6]
    back = server.requests[1].messages
    assert back[-2]["content"] == "I think that a steeper slope helps."
    assert "no object of the form" in back[-1]["content"]


def test_an_iteration_is_replayed_without_a_service_to_the_same_decisions(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    broken = reply("design", text="{", finish="length")
    refined = replies(iteration(implementation=implementation(8.0), decide_repeat=decision("stop")))[1:]
    script = [*replies(iteration(decide_repeat=decision("refine")))[:1], broken, *replies(HELPS)[1:5]]
    script += [reply("decide_repeat", {"action": "refine", "reason": "steeper still"}), *refined]
    with StandIn(script) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "2")
        assert ended.code == 0, ended.out + ended.err
    before = snapshot(kit)
    for number in ("1", "2"):
        replayed = kit.autolab("replay", number, "--rerun")
        assert replayed.code == 0, replayed.out + replayed.err
        assert "nothing sent" in replayed.out and "the same decisions" in replayed.out
    assert snapshot(kit) == before, "the lab is read only"


def test_a_replay_gives_the_answers_that_a_user_gave_and_says_what_was_changed_since(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    nonsense = [reply("decide_repeat", text="Well done!", times=2), reply("decide_repeat", text="No?", times=4)]
    script = [one for one in KEPT if "decide_repeat" not in one["when"]] + nonsense
    with StandIn([*script, reply("decide_repeat", {"action": "stop", "reason": "done"})]) as server:
        words = ("loop", *model_flags(server), "--max-iterations", "1")
        assert kit.autolab(*words).code == 3
        assert kit.autolab("review", "retry").code == 0
        assert kit.autolab(*words).code == 0
    configure(kit, goal="another one")
    assert kit.autolab("status").code == 0 and kit.autolab("calibrate").code == 0, "a command that takes it up"
    replayed = kit.autolab("replay", "1")
    assert replayed.code == 0, replayed.out + replayed.err
    assert "human_review -> decide_repeat" in replayed.out and "the same decisions" in replayed.out
    assert "note: changed since, and used as it is now: .autolab/config.yaml" in replayed.out


def snapshot(kit: LabKit) -> dict[str, str]:
    """Everything in the lab but the lock and git's own caches."""
    kept = [path for path in kit.root.rglob("*") if path.is_file() and "lock" not in path.name]
    kept = [path for path in kept if path.name != "index"]
    return {str(path.relative_to(kit.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def test_a_record_that_was_changed_replays_to_other_decisions_and_says_which(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    with StandIn(KEPT) as server:
        assert kit.autolab("loop", *model_flags(server), "--max-iterations", "1").code == 0
    kept = next(kit.store.glob("requests/*/implementation-1/calls/1.reply.json"))
    kept.write_text(kept.read_text().replace("WIDTH = 4.0", "WIDTH = 3.5"))
    replayed = kit.autolab("replay", "1")
    assert replayed.code == 1
    assert "differs: code_checksum" in replayed.out and "not the same decisions" in replayed.out


def test_a_scripted_iteration_is_replayed_too_and_an_unknown_one_refused(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, {"iterations": [HELPS]})
    assert kit.autolab("loop", "--max-iterations", "1").code == 0
    assert "the same decisions" in kit.autolab("replay", "1").out
    unknown = kit.autolab("replay", "7")
    assert unknown.code == 1 and "`autolab registry` lists them" in unknown.err


# What a user is told before it costs


def test_doctor_asks_each_model_for_a_sample_decision(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    good = reply("decide_repeat", {"action": "refine", "reason": "not there yet"}, times=0)
    with StandIn([good]) as server:
        found = kit.autolab("doctor", "--llm", "--model", "openai:scripted", "--base-url", server.url)
    assert found.code == 0, found.out + found.err
    for said in ("answers", "takes the key, knows the model", "structured output: fits", "a sample decision: refine"):
        assert said in found.out
    assert not kit.events("call"), "it stands in no ledger"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"key": "sk-right", "replies": []}, "(unauthorized); set the key that this service wants"),
        ({"models": ["other"], "replies": []}, "(not_found); check model and base_url"),
        ({"replies": [{"text": "Hello!"}]}, "structured output: not JSON: no object of the form in the reply"),
        ({"replies": [{"output": {"action": "achieve", "reason": "!"}}]}, "a sample decision is wrong"),
        ({"replies": [{"status": 429, "error": {"code": "insufficient_quota"}}]}, "(quota); top up the account"),
    ],
)
def test_doctor_says_the_way_out_of_each_failure(tmp_path: Path, script: dict[str, Any], said: str) -> None:
    kit = model_lab(tmp_path)
    with StandIn(Script.from_value(script, "script")) as server:
        found = kit.autolab("doctor", "--llm", "--model", "openai:scripted", "--base-url", server.url)
    assert found.code == 1 and said in found.out, found.out + found.err


def test_doctor_says_what_cannot_be_reached_and_which_key_is_missing(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    with StandIn([]) as server:
        gone = server.url
    found = kit.autolab("doctor", "--llm", "--model", "openai:scripted", "--base-url", gone)
    assert found.code == 1 and "cannot be reached (Connection refused): start it" in found.out
    kit.env.pop("OPENAI_API_KEY", None)
    found = kit.autolab("doctor", "--llm", "--model", "openai:gpt-5", OPENAI_API_KEY="")
    assert found.code == 1 and "OPENAI_API_KEY is not set: export OPENAI_API_KEY=..." in found.out
