"""What only a user can fix, and services that go away: nothing is lost, no attempt is used, the loop goes on."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import LabKit, decision, hypothesis, implementation, iteration, review
from model_kit import model_flags, model_lab, replies, reply
from standin import Ollama, ReceivedRequest, ScriptedReply, StandIn

from autolab.cli.view import Plain
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import ResearcherConfig
from autolab.loop.clock import LoopClock
from autolab.loop.engine import End, Engine, LoopRequest
from autolab.researchers.base import PROBE

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


# A service that goes away

GONE = {"status": 529, "error": {"message": "Overloaded"}}
HERE = {"text": "here", "finish": "length"}
START = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


class FakeClock(LoopClock):
    """Time that passes only when somebody sleeps. Each appointment is kept once, when its seconds are over."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.appointments: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        while self.appointments and self.appointments[0][0] <= self.seconds:
            self.appointments.pop(0)[1]()


class Lines(Plain):
    """What a user reads."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        super().__init__(self.lines.append)


@dataclass
class Night:
    """A loop in this process, by a clock that is faked where the engine takes it, against a service that can go."""

    kit: LabKit
    server: StandIn
    clock: FakeClock
    lines: list[str] = field(default_factory=list)

    def loop(self, stop: Callable[[], bool] = lambda: False, iterations: int = 1, **who: Any) -> End:
        lab = Lab(self.kit.root)
        researcher = {"name": "llm", "model": "openai:scripted", "base_url": self.server.url} | who
        config = lab.config()
        config = config.model_copy(update={"researcher": ResearcherConfig.from_value(researcher, "researcher")})
        view = Lines()
        self.lines = view.lines
        with lab.hold("autolab loop"):
            return Engine(lab, config, view, stop, clock=self.clock).loop(LoopRequest(iterations))

    def calls(self) -> list[str]:
        return [line["data"]["reason"] for line in self.kit.events("call")]

    def told(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]


@dataclass
class Weather:
    """Whether the service answers: `down` from the request on that `begins` matches, until it is set again."""

    begins: str
    down: bool = False
    met: bool = False

    def __call__(self, request: ReceivedRequest) -> ScriptedReply | None:
        if not self.met and re.search(self.begins, request.text):
            self.down = self.met = True
        if self.down:
            return ScriptedReply.from_value(GONE, "reply")
        return ScriptedReply.from_value(HERE, "reply") if PROBE in request.text else None

    def clears(self) -> None:
        self.down = False


def at_stage(stage: str) -> str:
    return rf"(?m)^stage: {stage}$"


def test_three_hours_of_outage_in_mid_loop_cost_no_attempt_and_one_line(tmp_path: Path) -> None:
    weather = Weather(at_stage("implementation"))
    with StandIn(KEPT, answer=weather) as server:
        night = Night(model_lab(tmp_path), server, FakeClock())
        seen: list[dict[str, Any]] = []
        night.clock.appointments = [
            (3600.0, lambda: seen.append(json.loads(night.kit.autolab("status", "--json").out))),
            (3 * 3600.0, weather.clears),
        ]
        assert night.loop() is End.DONE
    (line,) = night.told("waiting for")
    assert line == (
        "  waiting for openai:scripted until 10:00 at most (overloaded: HTTP 529: Overloaded); Ctrl-C or `autolab stop`"
        " pauses"
    )
    assert len(night.told("answers again, after 3.")) == 1 and not night.told("retry")
    assert seen[0]["waiting"] == {
        "service": "openai:scripted",
        "reason": "overloaded: HTTP 529: Overloaded",
        "since": START.isoformat(timespec="seconds"),
        "until": (START + timedelta(hours=12)).isoformat(timespec="seconds"),
    }
    outcomes = [line["data"]["outcome"] for line in night.kit.events("transition") if line["data"].get("outcome")]
    assert "retry" not in outcomes and outcomes.count("complete") == 7, "no attempt was used"
    assert len(night.kit.events("waiting")) == len(night.kit.events("wait_ended")) == 1
    # Growing pauses up to five minutes, and one-token probes in place of the request.
    assert 36 < night.calls().count("overloaded") < 50
    probes = [request for request in server.requests if PROBE in request.text]
    assert len(probes) == night.calls().count("overloaded"), "the last one was answered, the first was the request"
    assert all(
        max(probe.body.get("max_tokens", 1), probe.body.get("max_completion_tokens", 1)) == 1 for probe in probes
    )
    (record,) = json.loads(night.kit.autolab("registry", "--json").out)
    assert record["outcome"] == "kept"
    replayed = night.kit.autolab("replay", "1")
    assert replayed.code == 0 and "the same decisions" in replayed.out, replayed.out + replayed.err


def test_an_outage_longer_than_its_hours_asks_the_user_and_the_same_command_goes_on(tmp_path: Path) -> None:
    weather = Weather(at_stage("hypothesis"))
    with StandIn(KEPT, answer=weather) as server:
        night = Night(model_lab(tmp_path), server, FakeClock())
        assert night.loop(outage_hours=2) is End.USER
        assert 7100 < night.clock.seconds < 7300
        state = night.kit.state()
        assert (state["stage"], state["from_stage"], state["stage_attempt"]) == ("human_review", "hypothesis", 1)
        assert "waited for 2 h; start the service" in state["reason"]
        assert "then `autolab review retry` and the same command" in state["reason"]
        weather.clears()
        assert night.kit.autolab("review", "retry").code == 0
        assert night.loop(outage_hours=2) is End.DONE


def test_a_request_that_makes_its_server_fail_counts_as_an_attempt_after_minutes(tmp_path: Path) -> None:
    """The probes are answered, the request never."""
    crashes = reply("hypothesis", **GONE, times=0)
    with StandIn([crashes, HERE | {"times": 0}]) as server:
        night = Night(model_lab(tmp_path), server, FakeClock())
        assert night.loop() is End.USER
    assert night.clock.seconds < 15 * 60
    assert night.told("attempts used up") or night.told("the same error 3 times")
    assert night.calls().count("ok") >= 5, "the probes"


def test_the_hours_of_the_loop_end_a_wait_as_a_spent_budget(tmp_path: Path) -> None:
    weather = Weather(at_stage("implementation"))
    with StandIn(KEPT, answer=weather) as server:
        night = Night(model_lab(tmp_path, config={"budget": {"wall_hours": 5}}), server, FakeClock())
        assert night.loop() is End.BUDGET
        assert 5 * 3600 <= night.clock.seconds < 5 * 3600 + 5
        (line,) = night.told("waiting for")
        assert "until 03:00 at most" in line, "the loop's end comes before twelve hours are over"
        assert night.kit.state()["reason"].startswith("budget: wall_hours: 5.00 of 5")
        weather.clears()
        path = night.kit.root / ".autolab" / "config.yaml"
        path.write_text(path.read_text().replace("wall_hours: 5", "wall_hours: 9"))
        assert night.kit.autolab("review", "retry").code == 0
        assert night.loop() is End.DONE


def test_the_fall_back_is_asked_within_minutes_and_both_are_waited_for_if_both_are_gone(tmp_path: Path) -> None:
    weather = Weather(at_stage("hypothesis"))
    with StandIn(KEPT, answer=weather) as server:
        night = Night(model_lab(tmp_path), server, FakeClock())
        night.clock.appointments = [(3600.0, weather.clears)]
        assert night.loop(fallback="openai:second") is End.DONE
    first, second, both = night.told("waiting for")
    assert first.startswith("  waiting for openai:scripted; then asks openai:second (overloaded: ")
    assert second.startswith("  waiting for openai:second; then asks openai:scripted (overloaded: ")
    assert both.startswith("  waiting for openai:scripted or openai:second until 10:")
    asked = [line["data"]["model"] for line in night.kit.events("call")]
    assert asked.index("openai:second") == 6, "the first one's request and five probes"


def test_a_user_who_pauses_during_a_wait_is_obeyed_at_once_and_the_loop_waits_anew(tmp_path: Path) -> None:
    weather = Weather(at_stage("hypothesis"))
    with StandIn(KEPT, answer=weather) as server:
        night = Night(model_lab(tmp_path), server, FakeClock())
        wants = threading.Event()
        night.clock.appointments = [(1800.0, wants.set)]
        assert night.loop(stop=wants.is_set) is End.PAUSED
        assert 1800 <= night.clock.seconds < 1801
        assert json.loads(night.kit.autolab("status", "--json").out)["waiting"] is None, "nobody waits"
        night.clock.appointments = [(3600.0, weather.clears)]
        assert night.loop() is End.DONE
    assert len(night.told("waiting for")) == 1
    replayed = night.kit.autolab("replay", "1")
    assert replayed.code == 0 and "the same decisions" in replayed.out, replayed.out + replayed.err


# The same by real time, through the command line


class Street:
    """One address, at which a service comes and goes."""

    def __init__(self, script: list[dict[str, Any]]) -> None:
        self._script = script
        self.port = 0
        self.server: StandIn | None = None

    def open(self) -> str:
        self.server = StandIn(self._script, port=self.port).__enter__()
        self.port = int(self.server.origin.rpartition(":")[2])
        return self.server.url

    def close(self) -> None:
        assert self.server is not None
        self.server.__exit__(None)


def until(process: subprocess.Popen[str], words: str) -> list[str]:
    """The lines that it prints, up to the one with these words."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError("".join(lines) + (process.stderr.read() if process.stderr else ""))


def test_a_service_that_goes_away_and_comes_back_is_waited_for_through_stop_and_kill(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    street = Street([*KEPT, HERE | {"times": 0}])
    url = street.open()
    street.close()
    words = ("loop", "--max-iterations", "1", "--researcher", "llm", "--model", "openai:scripted", "--base-url", url)
    running = kit.start(*words)
    (line,) = [line for line in until(running, "waiting for") if "waiting for" in line]
    assert re.search(r"waiting for openai:scripted until [\d :-]+ at most \(unreachable: Connection refused\);", line)
    status = kit.autolab("status").out
    assert re.search(
        r"(?m)^waiting +for openai:scripted until [\d :-]+ \(unreachable: Connection refused\), since", status
    )
    assert kit.autolab("stop").code == 0
    out, err = running.communicate(timeout=20)
    assert running.returncode == 0 and "paused" in out, out + err
    again = kit.start(*words)
    until(again, "waiting for")
    again.kill()
    again.communicate()
    assert "waiting " not in kit.autolab("status").out, "nobody waits"
    third = kit.start(*words)
    until(third, "waiting for")
    street.open()
    out, err = third.communicate(timeout=120)
    street.close()
    assert third.returncode == 0, out + err
    assert "openai:scripted answers again, after" in out and "waiting for" not in out
    assert not [line for line in kit.events("transition") if line["data"].get("outcome") == "retry"]
    assert kit.autolab("verify").code == 0
    replayed = kit.autolab("replay", "1")
    assert replayed.code == 0 and "the same decisions" in replayed.out, replayed.out + replayed.err


def test_a_user_need_not_wait_for_a_probe_that_hangs(tmp_path: Path) -> None:
    kit = model_lab(tmp_path)
    hangs = threading.Event()

    def answer(request: ReceivedRequest) -> ScriptedReply | None:
        if PROBE not in request.text:
            return ScriptedReply.from_value(GONE, "reply")
        hangs.set()
        return ScriptedReply.from_value(HERE | {"delay_s": 600}, "reply")

    with StandIn(answer=answer) as server:
        running = kit.start(*LOOP, *model_flags(server))
        assert hangs.wait(120)
        assert kit.autolab("stop").code == 0
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0 and "paused" in out, out + err
    with StandIn([*KEPT, HERE | {"times": 0}]) as server:
        ended = kit.autolab(*LOOP, *model_flags(server))
    assert ended.code == 0, ended.out + ended.err
    assert [line["data"]["reason"] for line in kit.events("call")][:4] == ["overloaded", "lost", "ok", "ok"]


def test_a_silent_model_is_waited_for_if_the_fall_back_has_no_key(tmp_path: Path) -> None:
    weather = Weather(at_stage("hypothesis"))

    def answer(request: ReceivedRequest) -> ScriptedReply | None:
        if request.model == "second":
            return ScriptedReply.from_value({"status": 401}, "reply")
        return weather(request)

    with StandIn(KEPT, answer=answer) as server:
        night = Night(model_lab(tmp_path), server, FakeClock())
        night.clock.appointments = [(3600.0, weather.clears)]
        assert night.loop(fallback="openai:second") is End.DONE
    assert night.calls().count("unauthorized") == 1


@pytest.mark.parametrize("stage", ["hypothesis", "implementation"])
def test_the_hours_of_the_loop_end_a_wait_in_a_batch_as_a_spent_budget(tmp_path: Path, stage: str) -> None:
    weather = Weather(at_stage(stage))
    budget = {"budget": {"wall_hours": 5, "trials": 60}}
    kit = model_lab(tmp_path, config={"test": RULE, "screen": {"arms": 2}} | budget)
    told = [reply("hypothesis", hypothesis(title)["output"]) for title in ("steeper", "flat")]
    told += [reply("implementation", implementation()["output"], times=0)]
    with StandIn(told, answer=weather) as server:
        night = Night(kit, server, FakeClock())
        assert night.loop(iterations=9) is End.BUDGET
    assert 5 * 3600 <= night.clock.seconds < 5 * 3600 + 5
    assert len(night.told("waiting for")) == 1


def test_an_outage_in_a_batch_that_was_waited_for_in_vain_asks_the_user_and_keeps_its_ideas(tmp_path: Path) -> None:
    weather = Weather(at_stage("implementation"))
    told = [reply("hypothesis", hypothesis(title)["output"]) for title in ("steeper", "flat")]
    told += [reply("implementation", implementation(width)["output"]) for width in (3.0, 1.0)]
    told += [reply("implementation_review", review()["output"], times=0)]
    with StandIn(told, answer=weather) as server:
        night = Night(explorer(tmp_path), server, FakeClock())
        assert night.loop() is End.USER
        assert night.kit.state()["reason"].startswith("outage: openai:scripted: ")
        weather.clears()
        assert night.kit.autolab("review", "retry").code == 0
        assert night.loop() is End.DONE
    assert not night.kit.events("idea_dropped")
    assert requests_of(night.kit).count("hypothesis") == 2


# A context that is too short


PROGRAM = "Keep the change small, say why it helps, and name the risk that you see in it. "
"""So many times that a prompt has more than 4,096 tokens, as those of a real lab have."""


def thinker(folder: Path) -> LabKit:
    kit = model_lab(folder)
    (kit.root / "program.md").write_text("# Program\n\n" + PROGRAM * 240)
    kit.git("commit", "-qam", "A program of some length")
    return kit


def test_a_loop_with_a_model_as_qwen3_through_ollama_ends_by_itself_after_three_iterations(tmp_path: Path) -> None:
    kit = thinker(tmp_path)
    script: list[dict[str, Any]] = []
    for title, width in (("Steeper", 4.0), ("Flatter", 1.5), ("Steepest", 8.0)):
        told = iteration(hypothesis=hypothesis(title), implementation=implementation(width))
        script += replies(told)
    with StandIn(answer=Ollama(script, 32_768)) as server:
        ended = kit.autolab(
            *("loop", "--max-iterations", "3", "--researcher", "llm", "--model", "ollama:qwen3:8b"),
            *("--base-url", server.url),
        )
    assert ended.code == 0, ended.out + ended.err
    assert "loop ended: 3 of 3 iterations done" in ended.out
    assert len(kit.iterations()) == 3 and len(server.requests) == len(script)


@pytest.mark.parametrize("mode", ["each", "explore"])
def test_with_four_thousand_tokens_of_context_one_line_says_what_to_set(tmp_path: Path, mode: str) -> None:
    kit = thinker(tmp_path)
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("mode: each", f"mode: {mode}"))
    with StandIn(answer=Ollama(KEPT, 4096)) as server:
        ended = kit.autolab(*LOOP, "--researcher", "llm", "--model", "ollama:qwen3:8b", "--base-url", server.url)
        assert len(server.requests) == 1, "an answer of a model that saw no task is not sent back"
    assert ended.code == USER, ended.out + ended.err
    (line,) = [line for line in ended.out.split("\n") if line.startswith("waits for a user")]
    assert re.search(r"context_cut: ollama:qwen3:8b: the prompt was cut off: .* the service read 4,096; start", line)
    assert "start Ollama with `OLLAMA_CONTEXT_LENGTH=32768 ollama serve`" in line
    assert "`PARAMETER num_ctx 32768`, then `autolab review retry` and the same command" in line
    assert kit.events("call")[0]["data"]["reason"] == "context_cut"


# What a user is told before a night


def test_doctor_sends_a_prompt_of_the_labs_length_and_says_what_an_iteration_costs(tmp_path: Path) -> None:
    kit = thinker(tmp_path)
    shown = json.loads(kit.autolab("prompt", "hypothesis", "--json").out)
    decides = reply("decide_repeat", {"action": "refine", "reason": "not there yet"})
    flags = ("--researcher", "llm", "--model", "ollama:qwen3:8b", "--base-url")
    with StandIn(answer=Ollama([decides], 32_768)) as server:
        checked = kit.autolab("doctor", "--llm", *flags, server.url)
        (asked, _) = server.requests
    assert checked.code == 0, checked.out + checked.err
    assert shown["user"].rstrip() in asked.text, "the longest prompt of this lab, and no other text of its length"
    tokens = -(-len(asked.text) // 4)
    assert f"was read whole: {tokens:,} tokens in, " in checked.out
    assert re.search(r" out, \d+ s, \$0\.0000\n", checked.out), checked.out
    assert "its context of 32,768 tokens holds that and the longest reply" in checked.out
    assert f"an iteration asks 6 times: up to {6 * tokens:,} tokens in, " in checked.out
    assert "a sample decision: refine" in checked.out


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        (4096, "the prompt was cut off: "),
        (16_384, "its context of 16,384 tokens leaves 10,"),
    ],
)
def test_doctor_says_that_a_context_is_too_short_and_what_to_set(tmp_path: Path, context: int, problem: str) -> None:
    kit = thinker(tmp_path)
    decides = reply("decide_repeat", {"action": "refine", "reason": "not there yet"})
    flags = ("--researcher", "llm", "--model", "ollama:qwen3:8b", "--base-url")
    with StandIn(answer=Ollama([decides], context)) as server:
        checked = kit.autolab("doctor", "--llm", *flags, server.url)
    assert checked.code == 1 and problem in checked.out, checked.out + checked.err
    assert "OLLAMA_CONTEXT_LENGTH=32768 ollama serve" in checked.out


def test_doctor_counts_the_requests_and_dollars_of_a_batch(tmp_path: Path) -> None:
    kit = explorer(tmp_path)
    decides = reply("decide_repeat", {"action": "refine", "reason": "more"}, usage={"input": 5_000, "output": 100})
    with StandIn([decides]) as server:
        who = {"name": "llm", "model": "openai:scripted", "base_url": server.url, "price": {"input": 10, "output": 100}}
        path = kit.root / ".autolab" / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"researcher": who}))
        checked = kit.autolab("doctor", "--llm")
    assert checked.code == 0, checked.out + checked.err
    assert "a batch of 2 ideas asks 5 times: up to 25,000 tokens in, 500 out if replies are as long" in checked.out
    assert "$0.0600" in checked.out and "$0.3000" in checked.out
