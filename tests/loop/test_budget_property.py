"""Budgets hold whatever the settings are and whatever services answer, through the command line and over real HTTP.

A service here writes as many tokens as its request allows it to, reports what it likes, breaks, hangs up and refuses.
What it bills is counted beside it. Two things have to hold for every combination: before each call, what is booked and
the most that the call may take are within the caps; and the true bill is beyond a cap by one call at most.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from lab_kit import LabKit, decision, design, docs, hypothesis, implementation, review
from model_kit import model_lab
from standin import ReceivedRequest, ScriptedReply, StandIn

from autolab.cli import command_line

pytestmark = pytest.mark.process

GOOD: dict[str, dict[str, Any]] = {
    "hypothesis": hypothesis()["output"],
    "design": design()["output"],
    "implementation": implementation()["output"],
    "implementation_review": review()["output"],
    "update_docs": docs()["output"],
    "decide_repeat": decision("stop", "it is done")["output"],
}
STEPS = 6
"""Steps of a lab for each combination, up to its first training at most."""
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict")
"""Names under which services take the longest reply; a careless one takes the largest of all that it finds."""
UNLIMITED = 500_000
"""Tokens of a reply whose request has no limit."""


@dataclass(frozen=True)
class Answer:
    """What a service does with a request: its kind, the share of the allowed tokens that it writes, what it reports."""

    kind: str
    share: float
    report: str


@dataclass
class Service:
    """A service that bills honestly. `tokens` and `dollars` are its bill."""

    prices: dict[str, dict[str, float] | None]
    answers: Iterator[Answer]
    tokens: int = 0
    dollars: float = 0.0
    calls: int = 0

    def reply(self, request: ReceivedRequest) -> ScriptedReply:
        self.calls += 1
        answer = next(self.answers)
        prompt = sum(len(str(message.get("content")).encode()) for message in request.body["messages"])
        allowed = longest_reply(request.body)
        tokens_in, tokens_out = prompt // 3, max(1, int(allowed * answer.share))
        if answer.kind in ("status", "refused parameter"):
            # No service bills what it refuses.
            return failure(answer)
        self.tokens += tokens_in + tokens_out
        price = self.prices[request.model] or {"input": 0.0, "output": 0.0}
        self.dollars += (tokens_in * price["input"] + tokens_out * price["output"]) / 1e6
        return written(request, answer, tokens_in, tokens_out)


def longest_reply(body: dict[str, Any]) -> int:
    """The tokens that a request allows, as the most careless service reads it: in any object, for every reply of it."""
    limits = [value for name, value in entries(body) if name in LIMITS and isinstance(value, int)]
    numbers = [value for name, value in entries(body) if name in ("n", "best_of") and isinstance(value, int)]
    return max(limits, default=UNLIMITED) * max(numbers, default=1)


def entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
        for part in value.values():
            yield from entries(part)


def failure(answer: Answer) -> ScriptedReply:
    if answer.kind == "refused parameter":
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        return ScriptedReply(status=400, error={"message": message, "code": "unsupported_parameter"})  # type: ignore[arg-type]
    return ScriptedReply(status=int(answer.report), headers={"Retry-After": 0.001})


def written(request: ReceivedRequest, answer: Answer, tokens_in: int, tokens_out: int) -> ScriptedReply:
    if answer.kind == "drop":
        return ScriptedReply(drop=True)
    if answer.kind == "cut":
        return ScriptedReply(text="half of it", cut=20)
    if answer.kind == "no reply":
        return ScriptedReply(body='{"error": {"message": "overloaded"}}')
    usage = reported(answer.report, tokens_in, tokens_out)
    wrap = {"usage": usage}
    if answer.kind == "truncated":
        return ScriptedReply(text="{", finish="length", wrap=wrap)
    if answer.kind == "prose":
        return ScriptedReply(text="I would set the slope.", wrap=wrap)
    stage = request.text.partition("\nstage: ")[2].partition("\n")[0]
    return ScriptedReply(output=GOOD.get(stage, {"decision": "stop", "reason": "a probe"}), wrap=wrap)


def reported(report: str, tokens_in: int, tokens_out: int) -> Any:
    """The usage in a reply. None is honest but the first; none is less than what was billed and believable."""
    forms: dict[str, Any] = {
        "honest": (tokens_in, tokens_out),
        "huge": (10**15, 10**15),
        "negative": (-tokens_in - 1, -tokens_out),
        "zero": (0, 0),
        "fractions": (tokens_in + 0.5, tokens_out + 0.5),
        "words": ("many", "more"),
        "null": (None, None),
        "no number": (float(10**300), tokens_out),
    }
    if report not in forms:
        return None
    count_in, count_out = forms[report]
    total = count_in + count_out if isinstance(count_in, int) and isinstance(count_out, int) else None
    return {"prompt_tokens": count_in, "completion_tokens": count_out, "total_tokens": total}


REPORTS = ("honest", "honest", "huge", "negative", "zero", "fractions", "words", "null", "no number", "absent")
KINDS = ("good", "good", "good", "prose", "truncated", "drop", "cut", "no reply")
STATUSES = ("400", "401", "404", "413", "422", "429", "500", "503", "529")
ANSWERS = st.one_of(
    st.builds(Answer, st.sampled_from(KINDS), st.sampled_from((0.0, 0.3, 1.0)), st.sampled_from(REPORTS)),
    st.builds(Answer, st.just("status"), st.just(0.0), st.sampled_from(STATUSES)),
    st.just(Answer("refused parameter", 0.0, "400")),
)
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.5},
    {"max_tokens": 200_000},
    {"max_completion_tokens": 200_000},
    {"extra_body": {"max_tokens": 200_000}},
    {"extra_body": {"max_completion_tokens": 200_000}},
    {"extra_body": {"options": {"num_predict": 200_000}}},
    {"extra_body": {"n": 50}},
    {"extra_body": {"max_tokens": None}},
)
PRICES = st.one_of(
    st.just({"input": 2.0, "output": 10.0}),
    st.just({"input": 0.5, "output": 75.0}),
    st.none(),
    st.builds(
        lambda into, out: {"input": into, "output": out},
        st.sampled_from((0.0, 0.5, 15.0)),
        st.sampled_from((0.0, 75.0)),
    ),
)


@st.composite
def researchers(draw: st.DrawFn) -> dict[str, Any]:
    """The keys of a researcher `llm`, but for its address."""
    keys: dict[str, Any] = {
        "max_tokens": draw(st.sampled_from((100, 4_000, 16_000))),
        "retries": draw(st.integers(0, 2)),
        # Most of the others are refused before the first call.
        "settings": draw(st.one_of(st.just({}), st.just({}), st.just({}), st.sampled_from(SETTINGS))),
        "price": draw(PRICES),
        "timeout_s": 20,
    }
    if draw(st.booleans()):
        keys["fallback"] = "openai:second"
    if draw(st.booleans()):
        keys["stages"] = {draw(st.sampled_from(list(GOOD))): "openai:third"}
    return keys


UNSHRUNK = (Phase.explicit, Phase.generate)
"""A smaller example is not worth the minutes: an example is a handful of steps of a lab."""
BUDGETS = st.fixed_dictionaries(
    {
        "tokens": st.sampled_from((None, 300, 8_000, 30_000, 60_000)),
        "dollars": st.sampled_from((None, 0.05, 0.2, 0.5, 3.0)),
    }
)
PRICE = {"input": 2.0, "output": 10.0}
AROUND = {"max_tokens": 16_000, "retries": 0, "settings": {"max_tokens": 200_000}, "price": PRICE, "timeout_s": 20}
"""Settings that spent $1.80 under a cap of $0.50 once."""


class _Clock:
    """Sleeping takes no time, and the time passes all the same."""

    def __init__(self) -> None:
        self._slept, self._monotonic = 0.0, time.monotonic

    def monotonic(self) -> float:
        return self._monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    kit = model_lab(tmp_path_factory.mktemp("budgets"), config={"attempts": {"stage": 3, "same_error": 3}})
    subprocess.run(["cp", "-a", str(kit.root), f"{kit.root}.kept"], check=True)
    return kit


def again(kit: LabKit, config: dict[str, Any]) -> None:
    """The lab as it was made, with more keys in its configuration."""
    subprocess.run(["chmod", "-R", "u+w", str(kit.root)], check=True)
    subprocess.run(["rm", "-rf", str(kit.root)], check=True)
    subprocess.run(["cp", "-a", f"{kit.root}.kept", str(kit.root)], check=True)
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | config, sort_keys=False))


def steps(kit: LabKit) -> str:
    """Drive the lab until it has to train, waits, stops or refuses; what it printed."""
    said = ""
    for _ in range(STEPS):
        if kit.state()["stage"] in ("launch", "human_review", "stop"):
            return said
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = command_line.main(["run", "--dir", str(kit.root)])
        said += out.getvalue()
        if code != 0:
            return said
    return said


def require_caps(kit: LabKit, budget: dict[str, Any]) -> tuple[int, float]:
    """Before each call the caps allowed it. Returns the most that one call may take: tokens, and dollars."""
    tokens, dollars, largest = 0, 0.0, (0, 0.0)
    for line in kit.events():
        data = line["data"]
        if line["event"] == "call":
            tokens += data["input_tokens"] + data["output_tokens"]
            dollars += data["dollars"] or 0.0
        if line["event"] == "call_sent":
            asked = data["dollars"] or 0.0
            assert budget["tokens"] is None or tokens + data["tokens"] <= budget["tokens"]
            assert budget["dollars"] is None or dollars + asked <= budget["dollars"] + 1e-9
            largest = max(largest[0], data["tokens"]), max(largest[1], asked)
    return largest


@settings(
    max_examples=25, phases=UNSHRUNK, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@example(AROUND, None, {"tokens": None, "dollars": 0.5}, [Answer("good", 0.9, "honest")])
@example(AROUND | {"settings": {"extra_body": {"n": 50}}}, None, {"tokens": 60_000, "dollars": None}, [])
@example(AROUND | {"settings": {}}, None, {"tokens": 25_000, "dollars": None}, [Answer("good", 1.0, "negative")] * 5)
@given(
    author=researchers(),
    reviewer=st.none() | researchers(),
    budget=BUDGETS,
    answers=st.lists(ANSWERS, min_size=1, max_size=8),
)
def test_no_combination_spends_more_than_one_call_beyond_a_cap(
    kept: LabKit, author: dict[str, Any], reviewer: dict[str, Any] | None, budget: dict[str, Any], answers: list[Answer]
) -> None:
    prices = dict.fromkeys(("first", "second", "third"), author["price"])
    prices |= {"reviewer": reviewer["price"] if reviewer else None}
    # The last answers come again and again, with good ones between: no service is silent for ever.
    service = Service(prices, itertools.cycle([*answers, Answer("good", 1.0, "honest")]))
    clock = _Clock()
    with pytest.MonkeyPatch.context() as patch, StandIn(answer=service.reply) as server:
        patch.setattr(time, "sleep", clock.sleep)
        patch.setattr(time, "monotonic", clock.monotonic)
        at = {"name": "llm", "base_url": server.url}
        config: dict[str, Any] = {"researcher": author | at | {"model": "openai:first"}, "budget": budget}
        if reviewer:
            keys = {name: value for name, value in reviewer.items() if name not in ("fallback", "stages")}
            config["reviewer"] = keys | at | {"model": "openai:reviewer"}
        again(kept, config)
        said = steps(kept)
    assert "Traceback" not in said
    sent = kept.events("call_sent")
    assert len(sent) == len(kept.events("call")) == service.calls, "each call is announced and booked, once"
    tokens, dollars = require_caps(kept, budget)
    if budget["tokens"] is not None:
        assert service.tokens <= budget["tokens"] + tokens, said
    if budget["dollars"] is not None:
        assert service.dollars <= budget["dollars"] + dollars + 1e-9, said
    # Of calls that a step has acted on, the campaign counts what the ledger has.
    booked = sum(line["data"]["input_tokens"] + line["data"]["output_tokens"] for line in kept.events("call"))
    assert kept.events("transition")[-1]["data"]["campaign"]["tokens"] <= booked


def test_the_property_sees_settings_that_go_around_a_limit() -> None:
    assert longest_reply({"max_tokens": 500}) == 500
    for body in ({"max_tokens": 500, "options": {"num_predict": 200_000}}, {"max_completion_tokens": 200_000}):
        assert longest_reply(body) == 200_000
    assert longest_reply({"max_tokens": 500, "n": 50}) == 25_000
    assert longest_reply({"max_tokens": None}) == UNLIMITED
