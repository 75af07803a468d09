"""Targets, what a run may still cost, and whether a target counts as achieved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autolab import conclusion
from autolab.errors import UsageError
from autolab.records.lab import Config
from autolab.records.outcomes import Verdict

CONFIG = Config.from_value(
    {"metric": {"primary": "val_loss", "direction": "minimize", "success_delta": 0.1, "report": ["accuracy", "f1"]}},
    "config.yaml",
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("accuracy>=0.98", ("accuracy", ">=", 0.98)),
        (" accuracy >= .98 ", ("accuracy", ">=", 0.98)),
        ("val_loss<=1e-3", ("val_loss", "<=", 0.001)),
        ("val_loss>=-2", ("val_loss", ">=", -2.0)),
        ("f1<=+1.", ("f1", "<=", 1.0)),
        ("0.3", ("val_loss", "<=", 0.3)),
        ("-1E2", ("val_loss", "<=", -100.0)),
    ],
)
def test_a_target_is_read(text: str, found: tuple[str, str, float]) -> None:
    assert conclusion.target(text, CONFIG) == found


def test_a_bare_number_is_the_primary_metric_in_its_good_direction() -> None:
    metric = CONFIG.metric.model_copy(update={"direction": "maximize"})
    assert conclusion.target("0.3", CONFIG.model_copy(update={"metric": metric})) == ("val_loss", ">=", 0.3)


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy>0.9", "accuracy=0.9", "accuracy>=", ">=0.9", "accuracy>=nan", "inf", "0.9%", "1,5",
     "accuracy>=0.9 f1>=0.8", "٣"],
)  # fmt: skip
def test_a_target_that_is_not_understood_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not understood; write METRIC>=NUMBER, METRIC<=NUMBER or a number"):
        conclusion.target(text, CONFIG)


def test_a_target_on_what_is_not_measured_names_what_is() -> None:
    with pytest.raises(UsageError, match="auc is not measured in this lab; measured: val_loss, accuracy, f1"):
        conclusion.target("auc>=0.9", CONFIG)


# What a run may still cost


def event(n: int, event: str, run: str = "run_0001", reused: str | None = None) -> SimpleNamespace:
    data: dict[str, Any] = {"run_id": run}
    return SimpleNamespace(
        n=n, event=event, data=data | ({"trial": {"reused_from": reused}} if event == "trial" else {})
    )


def desk(acted: int, *events: SimpleNamespace) -> Any:
    return SimpleNamespace(acted=acted, events=lambda: list(events))


def test_trials_of_a_run_that_is_over_are_no_discount_on_the_next() -> None:
    first = [event(1, "trial"), event(2, "trial"), event(3, "run_ended")]
    assert conclusion._counted(desk(5, *first)) == 0
    assert conclusion._counted(desk(5, *first[:2])) == 2, "of a run under way they are paid"


def test_trials_since_the_last_act_are_not_paid_yet_unless_they_cost_nothing() -> None:
    events = [event(6, "trial"), event(7, "trial", reused="i0/run_0001/a-s0")]
    assert conclusion._counted(desk(5, *events)) == 1
    assert conclusion._executed(desk(5, *events)) == 1
    assert conclusion._executed(desk(6, *events)) == 0


# Achieved


def results(verdict: str | None, *means: float) -> SimpleNamespace:
    lead = [SimpleNamespace(arm=f"arm{i}", difference=SimpleNamespace(mean=mean)) for i, mean in enumerate(means)]
    return SimpleNamespace(status="completed", assessment=SimpleNamespace(verdict=verdict, comparisons=lead))


@pytest.mark.parametrize(
    ("target", "verdict", "said"),
    [
        (None, "supported", "there is no target"),
        ("accuracy>=0.9", "refuted", "the verdict is refuted, the target needs a supported candidate"),
        ("accuracy>=0.9", None, "the verdict is completed, the target needs a supported candidate"),
        ("accuracy>=0.96", "supported", "accuracy is 0.95, the target is >= 0.96"),
        ("accuracy<=0.94", "supported", "accuracy is 0.95, the target is <= 0.94"),
        ("f1>=0.1", "supported", "f1 was not measured"),
        ("accuracy>=0.95", "supported", ""),
    ],
)
def test_a_target_is_achieved_by_the_best_supported_arms_measured_mean(
    monkeypatch: pytest.MonkeyPatch, target: str | None, verdict: str | None, said: str
) -> None:
    arms = {"arm0": {"accuracy": SimpleNamespace(mean=0.99)}, "arm1": {"accuracy": SimpleNamespace(mean=0.95)}}
    monkeypatch.setattr(conclusion, "_results", lambda desk: results(verdict and Verdict(verdict), 0.1, 0.2))
    monkeypatch.setattr(conclusion, "_metrics", lambda desk: SimpleNamespace(arms=arms))
    config = CONFIG.model_copy(update={"target": target})
    found = conclusion._not_achieved(SimpleNamespace(config=config, campaign=SimpleNamespace(loop=None)))  # type: ignore[arg-type]
    assert found.startswith(said) and bool(found) == bool(said)
