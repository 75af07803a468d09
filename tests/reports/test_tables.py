"""What a finished run becomes: aggregate, results, tables, figures, summary; the same bytes each time."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autolab.errors import RecordError
from autolab.lab.schemas.experiment import Confirmation, Design, Hypothesis, Manifest, Results, RunMetrics, Trial
from autolab.lab.schemas.outcomes import Decision, Recommendation, TrialOutcome, Verdict
from autolab.reports import figures, iteration_documents, tables
from autolab.stats import plan, verdict

ITERATION = "2026-02-12T23-30-00Z_h1"
FIGURES = tuple(f"analysis/figures/{name}.{end}" for name in ("comparison", "loss", "acc") for end in ("png", "pdf"))
TABLES = ("arms", "trials", "pairs", "comparisons", "history")
COUNT = 4


def make_design(**changes: Any) -> Design:
    value: dict[str, Any] = {
        "id": "e1",
        "iteration_id": ITERATION,
        "hypothesis_id": "h1",
        "entrypoint": {"command": "{python} train.py"},
        "reproducibility": {"seeds": {"max_pairs": COUNT}},
        "metrics": {"primary": "val_loss", "success_delta": 0.01, "direction": "minimize"},
        "baselines": [{"name": "baseline"}],
        "variants": [{"name": "gelu"}],
    }
    return Design.from_value(value | changes, "design.yaml")


HYPOTHESIS = Hypothesis(
    id="h1",
    title="GELU helps\n## Decision",
    metric="val_loss",
    direction="minimize",
    success_delta=0.01,
    success="val_loss falls by 0.01",
    risk_bounds=(),
    mechanism="smooth",
)


def value(arm: str, index: int, size: float) -> float:
    noise = random.Random(f"{arm} {index}").gauss(0, 0.001)
    return 0.5 + random.Random(index).gauss(0, 0.01) + noise - (size if arm != "baseline" else 0.0)


def make_trials(design: Design, size: float, self_reported: bool = False) -> list[Trial]:
    trials = []
    for index in range(COUNT):
        for arm in (*design.baselines, *design.variants):
            numbers = {"val_loss": value(arm.name, index, size), "accuracy": 1 - value(arm.name, index, size) / 5}
            where = (
                {"self_reported": numbers} if self_reported else {"score": numbers, "self_reported": {"val_loss": 9}}
            )
            common = {"seed": 100 + index, "attempt": 1, "commit": "c0ffee", "key": "k", "content": "0"}
            common |= {"trial": f"{arm.name}-s{index}", "arm": arm.name, "index": index, "outcome": "completed"}
            trials.append(Trial.from_value(common | where | {"seconds": 1.5, "max_rss_bytes": 1000 + index}, "trial"))
    return trials


def make_manifest(trials: list[Trial], **changes: Any) -> Manifest:
    value: dict[str, Any] = {
        "run_id": "run_0001",
        "iteration_id": ITERATION,
        "status": "completed",
        "git": {"control_plane_commit": "a", "candidate_commit": "b" * 40, "base_commit": "d" * 40, "dirty": False},
        "location": "local",
        "command": "{python} train.py",
        "sync": {"artifact_sync_to_local": {"status": "ok"}},
        "verifier_results": {},
        "started_at": "2026-02-12T23:30:00.000Z",
        "artifacts": {},
        "rule": {"rule": "fixed", "alpha": 0.005},
        "metric": "val_loss",
        "success_delta": 0.01,
        "trials": [trial.value() for trial in trials],
    }
    return Manifest.from_value(value | changes, "run_manifest.json")


def extract(folder: Path, size: float = 0.1, design: Design | None = None, **changes: Any) -> tables.Extracted:
    design = design or make_design()
    trials = changes.pop("trials", None) or make_trials(design, size, changes.get("self_reported", False))
    return tables.extract(folder, make_manifest(trials, **changes), design, HYPOTHESIS)


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / f"analysis/tables/{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> str:
    return (folder / iteration_documents.SUMMARY).read_text(encoding="utf-8")


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def real_figure() -> None:
    """Asks for the figures themselves, which take half a second; other tests get empty files in their place."""


@pytest.fixture(autouse=True)
def _quick_figure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(shown: figures.Run, folder: Path) -> tuple[str, ...]:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {"comparison": shown.gains, "loss": shown.loss, "acc": shown.shares}
        names = tuple(f"{name}.{end}" for name, there in wanted.items() if there for end in ("png", "pdf"))
        for name in names:
            (folder / name).touch()
        return names

    if "real_figure" not in request.fixturenames:
        monkeypatch.setattr(figures, "draw", empty)


# documents


def test_a_supported_run_leaves_its_documents_and_names_them_all(tmp_path: Path) -> None:
    extracted = extract(tmp_path)
    assert set(every_file(tmp_path)) == set(extracted.results.artifacts)
    assert Results.load(tmp_path / "results.yaml") == extracted.results
    assert RunMetrics.load(tmp_path / "runs/run_0001/metrics.json") == extracted.metrics
    assert extracted.results.assessment.verdict is Verdict.SUPPORTED
    assert extracted.results.recommendation is Recommendation.PROCEED


def test_metrics_of_the_result_are_the_leading_variants_means(tmp_path: Path) -> None:
    results = extract(tmp_path).results
    expected = sum(value("gelu", index, 0.1) for index in range(COUNT)) / COUNT
    assert results.metrics["val_loss"] == pytest.approx(expected, rel=1e-12)
    assert results.results.experiments["gelu"].metrics == results.metrics


@pytest.mark.usefixtures("real_figure")
def test_extracting_again_gives_the_same_bytes_figures_included(tmp_path: Path) -> None:
    extract(tmp_path / "a")
    extract(tmp_path / "b")
    assert every_file(tmp_path / "a") == every_file(tmp_path / "b")
    extract(tmp_path / "b")
    assert every_file(tmp_path / "a") == every_file(tmp_path / "b")


def test_the_order_in_which_trials_ended_is_in_no_file(tmp_path: Path) -> None:
    trials = make_trials(make_design(), 0.1)
    extract(tmp_path / "a", trials=trials)
    extract(tmp_path / "b", trials=trials[::-1])
    assert every_file(tmp_path / "a") == every_file(tmp_path / "b")


# tables


def test_the_tables_tie_every_number_to_its_trial(tmp_path: Path) -> None:
    extract(tmp_path)
    trials, pairs = read_table(tmp_path, "trials"), read_table(tmp_path, "pairs")
    assert [row["trial"] for row in trials][:3] == ["baseline-s0", "gelu-s0", "baseline-s1"]
    assert [row["seed"] for row in pairs] == ["100", "101", "102", "103"]
    by_trial = {row["trial"]: row for row in trials}
    for row in pairs:
        assert row["baseline_value"] == by_trial[f"baseline-s{row['index']}"]["val_loss"]
        assert row["arm_value"] == by_trial[f"gelu-s{row['index']}"]["val_loss"]
        assert float(row["gain"]) == float(row["baseline_value"]) - float(row["arm_value"])
    (comparison,) = read_table(tmp_path, "comparisons")
    assert float(comparison["gain"]) == pytest.approx(sum(float(row["gain"]) for row in pairs) / COUNT, rel=1e-12)
    assert (comparison["verdict"], comparison["direction"], comparison["n"]) == ("supported", "minimize", "4")


def test_digits_survive_a_table(tmp_path: Path) -> None:
    extract(tmp_path)
    assert float(read_table(tmp_path, "trials")[1]["val_loss"]) == value("gelu", 0, 0.1)


def test_time_memory_and_ids_stand_in_the_last_columns(tmp_path: Path) -> None:
    design = make_design()
    quick = make_trials(design, 0.1)
    changes = {"seconds": 99.0, "max_rss_bytes": 7, "commit": "e", "key": "z"}
    slow = [t.model_copy(update={**changes, "reused_from": f"{ITERATION}/run_0001/{t.trial}"}) for t in quick]
    for which, trials in (("a", quick), ("b", slow)):
        for trial in trials:
            write_history(tmp_path / which / ITERATION, trial.trial, history(trial.arm, trial.index))
        extract(tmp_path / which / ITERATION, trials=trials)
    volatile = ("attempt", "seconds", "max_rss_bytes", "output_bytes", "commit", "key", "reused_from", "message")
    for name in TABLES:
        rows = [read_table(tmp_path / which / ITERATION, name) for which in "ab"]
        stable = [[{k: v for k, v in row.items() if k not in volatile} for row in table] for table in rows]
        assert stable[0] == stable[1]
        columns = list(rows[0][0])
        assert columns == [c for c in columns if c not in volatile] + [c for c in columns if c in volatile]


def test_the_primary_metric_comes_first(tmp_path: Path) -> None:
    extract(tmp_path)
    assert [row["metric"] for row in read_table(tmp_path, "arms")][:2] == ["val_loss", "accuracy"]


def test_self_reported_values_are_no_scores(tmp_path: Path) -> None:
    extracted = extract(tmp_path)
    assert extracted.metrics.arms["gelu"]["val_loss"].mean < 1  # the trials say 9 of themselves
    assert {row["source"] for row in read_table(tmp_path, "arms")} == {"evaluator"}
    assert "self-reported" not in summary(tmp_path).replace("during training (self-reported)", "")


def test_a_lab_without_evaluator_marks_every_number(tmp_path: Path) -> None:
    extracted = extract(tmp_path, self_reported=True)
    assert extracted.metrics.self_reported
    assert "**These numbers are self-reported**" in summary(tmp_path)
    assert "val_loss (self-reported) 0." in summary(tmp_path)
    for name in ("arms", "trials"):
        assert {row["source"] for row in read_table(tmp_path, name)} == {"self_reported"}
    assert all("self-reported" in finding for finding in extracted.results.findings)


# a search and its confirmation


SEQUENTIAL = {"rule": "sequential", "max_pairs": 12, "confirm_pairs": 12}
PAIRS = 12


def drawn_trials(arms: tuple[str, ...], size: float, first: int) -> list[Trial]:
    """Twelve pairs of each arm; only what the rule reads of them counts."""
    trials = []
    for index, arm in ((index, arm) for index in range(PAIRS) for arm in arms):
        numbers = {"val_loss": value(arm, first + index, size), "accuracy": 0.9 + first / 1000}
        about = {"seed": first + index, "attempt": 1, "commit": "c0ffee", "key": "k", "content": "0", "seconds": 1.5}
        about |= {"trial": f"{arm}-s{index}", "arm": arm, "index": index, "outcome": "completed"}
        trials.append(Trial.from_value(about | {"score": numbers}, "trial"))
    return trials


def confirm_manifest(size: float, **changes: Any) -> Manifest:
    arms = [{"name": "baseline", "role": "baseline", "code": "base"}]
    arms.append({"name": "gelu", "role": "variant", "code": "candidate"})
    about = {"run_id": "run_0002", "kind": "confirm", "rule": SEQUENTIAL, "pairs": PAIRS, "arms": arms}
    return make_manifest(drawn_trials(("baseline", "gelu"), size, 900), **about, **changes)


def confirmed(folder: Path, outcome: str, holdout: str = "passed", size: float = 0.08) -> tables.Extracted:
    """Two variants, of which `gelu` was supported and measured again."""
    design = make_design(reproducibility={"seeds": {"max_pairs": PAIRS}}, variants=[{"name": "gelu"}, {"name": "silu"}])
    trials = drawn_trials(("baseline", "gelu", "silu"), 0.1, 100)
    for number, one in enumerate(trials):
        if one.arm == "silu":
            unchanged = {"val_loss": value("baseline", one.index, 0.0) + 0.0001 * one.index}
            trials[number] = one.model_copy(update={"score": unchanged})
    search, again = make_manifest(trials, rule=SEQUENTIAL, pairs=PAIRS), confirm_manifest(size)
    judged = verdict.judge(plan.recorded_plan(again, design, HYPOTHESIS, None), again.trials).comparisons[0]
    about = {"run_id": "run_0002", "arm": "gelu", "difference": judged.difference.value(), "shrunken": 0.07}
    about |= {"reason": judged.reason or "supported", "holdout": holdout, "outcome": outcome, "claim": 1}
    confirmation = Confirmation.from_value(about | {"alpha": 0.005}, "confirmation")
    return tables.extract(folder, search, design, HYPOTHESIS, confirmation, again)


def test_a_kept_result_has_the_means_of_fresh_seeds_and_both_runs_documents(tmp_path: Path) -> None:
    extracted = confirmed(tmp_path, "kept")
    results = extracted.results
    assert set(every_file(tmp_path)) == set(results.artifacts)
    fresh = RunMetrics.load(tmp_path / "runs/run_0002/metrics.json")
    assert fresh.run_id == "run_0002"
    assert results.metrics == {name: arm.mean for name, arm in fresh.arms["gelu"].items()}
    assert results.metrics["val_loss"] != extracted.metrics.arms["gelu"]["val_loss"].mean
    assert Results.load(tmp_path / "results.yaml") == results
    assert (results.assessment.verdict, results.recommendation) == (Verdict.SUPPORTED, Recommendation.PROCEED)
    assert "**Kept: val_loss 0." in summary(tmp_path)
    assert any("on fresh seeds" in finding and "confirmed, holdout passed" in finding for finding in results.findings)


def test_a_retracted_result_is_inconclusive_and_tells_what_the_search_had_found(tmp_path: Path) -> None:
    extracted = confirmed(tmp_path, "retracted", "not_asked", 0.0)
    results = extracted.results
    assert (results.assessment.verdict, results.assessment.reason) == (Verdict.INCONCLUSIVE, "retracted")
    assert results.recommendation is Recommendation.INVESTIGATE
    assert results.assessment.comparisons[0].verdict is Verdict.SUPPORTED
    assert results.metrics["val_loss"] == extracted.metrics.arms["gelu"]["val_loss"].mean
    text = summary(tmp_path)
    assert "**Retracted: val_loss 0." in text and "- *retracted*: The gain of the search was not repeated" in text


def test_a_claim_that_the_holdout_could_not_be_asked_about_rests_on_the_searchs_means(tmp_path: Path) -> None:
    extracted = confirmed(tmp_path, "search_only", "used_up")
    assessment = extracted.results.assessment
    assert (assessment.verdict, assessment.reason) == (Verdict.INCONCLUSIVE, "search_only")
    assert extracted.results.metrics["val_loss"] == extracted.metrics.arms["gelu"]["val_loss"].mean
    assert "**Not kept: val_loss 0." in summary(tmp_path)


def test_every_row_of_every_table_names_its_run_and_fresh_seeds_stand_last(tmp_path: Path) -> None:
    folder = tmp_path / ITERATION
    write_history(folder, "gelu-s0", history("gelu", 0))
    write_history(folder, "gelu-s0", history("gelu", 0), "run_0002")
    confirmed(folder, "kept")
    for name in TABLES:
        rows = read_table(folder, name)
        assert next(iter(rows[0])) == "run"
        runs = [row["run"] for row in rows]
        assert runs == sorted(runs) and set(runs) == {"run_0001", "run_0002"}
    fresh = [row for row in read_table(folder, "pairs") if row["run"] == "run_0002"]
    compared = {(row["run"], row["arm"]): row for row in read_table(folder, "comparisons")}
    last = compared["run_0002", "gelu"]
    assert last["pairs"] == last["n"] == str(len(fresh)) and 2 < len(fresh) < PAIRS
    assert float(last["e_plus"]) >= 200 and float(last["e_minus"]) < 1
    assert fresh[0]["seed"] == "900" and ("run_0002", "silu") not in compared
    rows = {(row["run"], row["trial"]): row for row in read_table(folder, "trials")}
    assert ("run_0002", f"gelu-s{len(fresh)}") not in rows, "what the rule did not read is in no table"


def test_the_figure_shows_the_gain_on_fresh_seeds_and_both_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch)
    results = confirmed(tmp_path / ITERATION, "kept").results
    (shown,) = seen
    assert shown.title == "GELU helps ## Decision: supported, kept"
    assert (shown.runs, shown.iteration_id) == (("run_0001", "run_0002"), ITERATION)
    assert [(gain.arm, gain.verdict) for gain in shown.gains] == [
        ("gelu", "search: supported"),
        ("silu", "search: inconclusive"),
        ("gelu", "fresh seeds: kept"),
    ]
    fresh = shown.gains[-1]
    assert results.confirmation is not None and fresh.difference == results.confirmation.difference
    assert sum(fresh.pairs) / len(fresh.pairs) == pytest.approx(fresh.difference.mean, rel=1e-12)


def test_a_confirmation_whose_numbers_do_not_follow_from_its_trials_is_refused(tmp_path: Path) -> None:
    flattered = confirm_manifest(0.0)
    lies = [{"arm": "gelu", "baseline": "baseline", "metric": "val_loss", "verdict": "supported"}]
    lies[0] |= {"difference": {"n": 3, "mean": 1.0, "low": 0.5, "high": 1.5, "level": 0.99}}  # type: ignore[dict-item]
    told = Confirmation.from_value(
        {"run_id": "run_0002", "arm": "gelu", "difference": lies[0]["difference"], "shrunken": 1.0, "reason": ""}
        | {"holdout": "none", "outcome": "kept", "claim": 1, "alpha": 0.005},
        "confirmation",
    )
    flattered = Manifest.from_value(flattered.value() | {"comparisons": lies}, "run_manifest.json")
    search = make_manifest(make_trials(make_design(), 0.1))
    with pytest.raises(RecordError, match="do not follow from its trials"):
        tables.extract(tmp_path, search, make_design(), HYPOTHESIS, told, flattered)
    assert every_file(tmp_path) == {}


def test_pairs_are_those_of_the_trials_where_parts_of_the_evaluation_replicate(tmp_path: Path) -> None:
    trials = []
    for trial in make_trials(make_design(), 0.1)[:4]:
        mean = 0.5 if trial.arm == "baseline" else 0.4
        parts = tuple(mean + 0.001 * part * (trial.arm == "gelu") for part in range(20))
        more = {"score": {"val_loss": mean}, "parts": parts, "predictions_sha256": trial.arm}
        trials.append(trial.model_copy(update=more))
    extract(tmp_path, trials=trials, rule={"rule": "sequential"})
    (row,) = read_table(tmp_path, "comparisons")
    assert (row["pairs"], row["n"], row["reason"]) == ("2", "20", "deterministic")
    assert len(read_table(tmp_path, "pairs")) == 2
    assert "20 equal parts of the evaluation were compared instead, once." in summary(tmp_path)


# what the summary says


def test_a_supported_result_is_called_unconfirmed_with_its_numbers(tmp_path: Path) -> None:
    comparison = extract(tmp_path).metrics.comparisons[0].difference
    text = summary(tmp_path)
    assert text.startswith("# GELU helps ## Decision\n\n**Supported, not confirmed: val_loss 0.")
    assert comparison.low is not None and comparison.high is not None
    shown = f"{comparison.mean:.4f} (99% CI {comparison.low:.4f} to {comparison.high:.4f})"
    assert f", gain {shown}, 4 pairs; not measured on fresh seeds yet**" in text
    assert f"| {shown} | CI above 0, mean at least 0.01 | supported |" in text
    assert "Lower val_loss is better" in text


def test_a_refuted_result_says_that_the_gain_is_ruled_out(tmp_path: Path) -> None:
    results = extract(tmp_path, size=0.0).results
    assert results.recommendation is Recommendation.PIVOT
    high = results.assessment.comparisons[0].difference.high
    assert high is not None and 0 < high < 0.01
    text = summary(tmp_path)
    assert f" to {high:.4f}), 4 pairs; a gain of 0.01 or more is ruled out**" in text
    assert "| refuted if the CI is below 0.01 | refuted |" in text


def test_identical_arms_are_told_as_a_change_that_does_nothing(tmp_path: Path) -> None:
    trials = [t.model_copy(update={"score": {"val_loss": 0.5 + t.index}}) for t in make_trials(make_design(), 0.0)]
    results = extract(tmp_path, trials=trials).results
    assert (results.assessment.reason, results.recommendation) == ("no_change", Recommendation.INVESTIGATE)
    text = summary(tmp_path)
    assert "**Inconclusive (no change): val_loss " in text and "4 pairs; the change has no measured effect**" in text
    (finding,) = results.findings
    assert finding.startswith("gelu against baseline: val_loss ")
    assert finding.endswith(", gain 0 (no CI), 4 pairs: inconclusive (no change)")


def test_criteria_stand_with_their_limits_and_levels(tmp_path: Path) -> None:
    design = make_design(criteria=[{"metric": "accuracy", "target": 0.99, "acceptable": 0.98, "failure": 0.5}])
    results = extract(tmp_path, design=design).results
    assert results.assessment.criteria == {"accuracy": "below_acceptable"}
    assert results.recommendation is Recommendation.PIVOT
    text = summary(tmp_path)
    assert "; a limit set before the run decides: accuracy below acceptable**" in text
    assert "| target 0.99, acceptable 0.98, failure 0.5 | below acceptable |" in text


def test_a_failed_run_has_no_verdict_no_comparison_and_names_the_trial(tmp_path: Path) -> None:
    extract(tmp_path)
    trials = make_trials(make_design(), 0.1)
    broken = {"outcome": TrialOutcome.FAILED, "score": {}, "message": "exit status 1"}
    trials[3] = trials[3].model_copy(update=broken)
    extracted = extract(tmp_path, trials=trials, status="failed")
    results = extracted.results
    assert (results.status, results.error) == ("failed", "trial gelu-s1: failed: exit status 1")
    assert (results.assessment.verdict, results.recommendation) == (None, Recommendation.INVESTIGATE)
    assert results.metrics == {}
    arms = results.results.experiments
    assert (arms["gelu"].status, arms["baseline"].status) == ("failed", "skipped")
    assert [row["trial"] for row in read_table(tmp_path, "trials")][-1] == "gelu-s1"
    assert read_table(tmp_path, "comparisons") == []
    assert set(every_file(tmp_path)) == set(extracted.results.artifacts)
    assert [name for name in FIGURES if (tmp_path / name).exists()] == list(FIGURES[2:])  # an older one is taken away
    text = summary(tmp_path)
    assert "**Failed: trial gelu-s1: failed: exit status 1**" in text
    assert "- *failed*: The code did not run to its end, which says nothing about the hypothesis." in text


def test_a_run_of_which_nothing_completed_still_has_its_documents(tmp_path: Path) -> None:
    first = make_trials(make_design(), 0.1)[0]
    broken = first.model_copy(update={"outcome": TrialOutcome.TIMEOUT, "score": {}, "message": "after 5 s"})
    extracted = extract(tmp_path, trials=[broken], status="failed")
    assert set(every_file(tmp_path)) == set(extracted.results.artifacts)
    assert "No trial completed." in summary(tmp_path) and "None could be drawn." in summary(tmp_path)


def test_a_stub_run_has_no_verdict(tmp_path: Path) -> None:
    results = extract(tmp_path, kind="stub").results
    assert (results.assessment.verdict, results.recommendation) == (None, Recommendation.INVESTIGATE)
    assert not list((tmp_path / "analysis").glob("figures/*"))


# refusals


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sync": {"artifact_sync_to_local": {"status": "pending"}}}, "run_manifest.json: sync"),
        ({"rule": None}, "run_manifest.json: rule: missing"),
        ({"metric": "f1"}, "run_manifest.json: metric: 'f1'"),
        ({"success_delta": 0.001}, "design.yaml: metrics.success_delta: 0.01, but 0.001 was fixed before launch"),
        ({"trials": make_trials(make_design(), 0.1)[:-1]}, "run_manifest.json: run_0001 has not ended: 3 of 4 pairs"),
    ],
    ids=["sync", "rule", "metric", "delta", "trials"],
)
def test_a_manifest_that_cannot_be_judged_is_refused_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(RecordError) as refused:
        extract(tmp_path, **changes)
    assert str(refused.value).startswith(line)
    assert every_file(tmp_path) == {}


def test_comparisons_that_do_not_follow_from_the_trials_are_refused(tmp_path: Path) -> None:
    design = make_design()
    trials = make_trials(design, 0.0)
    manifest = make_manifest(trials)
    honest = verdict.judge(plan.recorded_plan(manifest, design, HYPOTHESIS, None), trials).comparisons
    manifest = manifest.model_copy(update={"comparisons": honest})
    assert tables.extract(tmp_path / "a", manifest, design, HYPOTHESIS).metrics.comparisons == honest
    flattered = (honest[0].model_copy(update={"verdict": Verdict.SUPPORTED}),)
    with pytest.raises(RecordError, match="do not follow from its trials"):
        tables.extract(tmp_path / "b", manifest.model_copy(update={"comparisons": flattered}), design, HYPOTHESIS)


# the decision


def test_a_decision_is_added_once_and_a_later_one_replaces_it(tmp_path: Path) -> None:
    extract(tmp_path)
    before = summary(tmp_path)
    tables.append_decision(tmp_path, "new_hypothesis", "It does nothing.\n## Not a heading")
    once = summary(tmp_path)
    assert once.startswith(before)
    assert once.endswith("\n## Decision\n\nNext: a new hypothesis. Reason: It does nothing.\n\n**Not a heading**\n")
    tables.append_decision(tmp_path, "new_hypothesis", "It does nothing.\n## Not a heading")
    assert summary(tmp_path) == once
    tables.append_decision(tmp_path, "stop", "Enough.")
    assert summary(tmp_path) == before + "\n## Decision\n\nThe loop ends. Reason: Enough.\n"


@pytest.mark.parametrize("decision", Decision)
def test_every_decision_is_a_plain_sentence(tmp_path: Path, decision: Decision) -> None:
    extract(tmp_path)
    tables.append_decision(tmp_path, decision, "Enough.")
    last = summary(tmp_path).splitlines()[-1]
    assert re.fullmatch(r"(Next: )?[a-zA-Z ,]+\. Reason: Enough\.", last) and decision.value not in last.split()


def test_a_decision_without_a_summary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"analysis/summary\.md: cannot be read"):
        tables.append_decision(tmp_path, "stop", "Enough.")


# what the trainings say of themselves


def write_history(folder: Path, trial: str, rows: list[dict[str, Any]], run: str = "run_0001") -> None:
    place = folder / "runs" / run / "trials" / trial / "a1" / "train" / "history.jsonl"
    place.parent.mkdir(parents=True)
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))


def history(arm: str, index: int) -> list[dict[str, Any]]:
    """Three epochs; the seeds of an arm differ by 0.1."""
    size = 1.0 if arm == "baseline" else 0.5
    return [
        {"step": 10 * e, "epoch": float(e), "train_loss": size / e + 0.1 * index, "seconds": 0.5}
        for e in (1, 2, 3)
    ]  # fmt: skip


def test_the_history_table_has_mean_interval_and_range_over_the_seeds(tmp_path: Path) -> None:
    folder = tmp_path / ITERATION
    for trial in make_trials(make_design(), 0.1):
        write_history(folder, trial.trial, history(trial.arm, trial.index))
    extracted = extract(folder)
    assert extracted.notes == ()
    rows = read_table(folder, "history")
    assert [(row["arm"], row["metric"], row["axis"], row["at"]) for row in rows] == [
        (arm, "train_loss", "epoch", at) for arm in ("baseline", "gelu") for at in ("1.0", "2.0", "3.0")
    ]
    first = rows[0]
    assert {first["n"], first["source"]} == {"4", "self_reported"}
    values = [1.0, 1.1, 1.2, 1.3]
    half = 3.182446305284263 * 0.12909944487358055 / 2  # t(3) at 97.5 %, deviation of the four values
    told = [float(first[name]) for name in ("mean", "ci95_low", "ci95_high", "min", "max")]
    assert told == pytest.approx([1.15, 1.15 - half, 1.15 + half, min(values), max(values)], rel=1e-12)


def test_a_reused_trials_curve_is_read_where_it_was_measured_first(tmp_path: Path) -> None:
    folder, old = tmp_path / ITERATION, tmp_path / "2026-02-11T00-00-00Z_h0"
    trials = make_trials(make_design(), 0.1)
    for number, trial in enumerate(trials):
        if trial.arm == "baseline":
            write_history(old, f"small-s{trial.index}", history("baseline", trial.index), "run_0007")
            origin = f"{old.name}/run_0007/small-s{trial.index}"
            trials[number] = trial.model_copy(update={"reused_from": origin})
    assert extract(folder, trials=trials).notes == (
        "history.jsonl: not found; the curves are without gelu-s0 and 3 more",
    )
    assert {(row["arm"], row["n"]) for row in read_table(folder, "history")} == {("baseline", "4")}
    assert "- history.jsonl: not found; the curves are without gelu-s0 and 3 more" in summary(folder)


def test_one_trial_without_a_sound_history_costs_its_place_in_the_curves_only(tmp_path: Path) -> None:
    folder = tmp_path / ITERATION
    for trial in make_trials(make_design(), 0.1):
        write_history(folder, trial.trial, history(trial.arm, trial.index))
    place = next(folder.glob("runs/*/trials/gelu-s2/a1/train")) / "history.jsonl"
    place.unlink()
    place.symlink_to("/etc/passwd")
    extracted = extract(folder)
    assert extracted.results.assessment.verdict is Verdict.SUPPORTED
    assert extracted.notes == ("history.jsonl: a link, which is not followed; the curves are without gelu-s2",)
    assert {(row["arm"], row["n"]) for row in read_table(folder, "history")} == {("baseline", "4"), ("gelu", "3")}


# what goes into the figures


def shown_by(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> figures.Run:
    seen = watch(monkeypatch)
    extract(folder, **changes)
    return seen[0]


def watch(monkeypatch: pytest.MonkeyPatch) -> list[figures.Run]:
    """What is to be drawn from now on, in place of drawing it."""
    seen: list[figures.Run] = []

    def see(shown: figures.Run, folder: Path) -> tuple[str, ...]:
        seen.append(shown)
        return ()

    monkeypatch.setattr(figures, "draw", see)
    return seen


def test_the_figures_show_the_numbers_of_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_by(monkeypatch, tmp_path / ITERATION)
    assert shown.title == "GELU helps ## Decision: supported, unconfirmed"
    assert shown.roles == {"baseline": "baseline", "gelu": "variant"}
    assert shown.primary.values["gelu"] == {index: value("gelu", index, 0.1) for index in range(COUNT)}
    assert shown.loss.measures == [shown.primary]
    assert [(share.metric, share.direction) for share in shown.shares.measures] == [("accuracy", "maximize")]
    rows = {(row["arm"], row["metric"]): row for row in read_table(tmp_path / ITERATION, "arms")}
    mean = shown.shares.measures[0].means["gelu"]
    row = rows["gelu", "accuracy"]
    assert [float(row[name]) for name in ("mean", "ci95_low", "ci95_high")] == [mean.mean, mean.low, mean.high]


def test_a_loss_is_shown_where_accuracy_decides_and_what_trains_is_no_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = make_design(metrics={"primary": "accuracy", "success_delta": 0.01, "direction": "maximize"})
    claim = HYPOTHESIS.model_copy(update={"metric": "accuracy", "direction": "maximize"})
    trials = []
    for trial in make_trials(design, 0.1, self_reported=True):
        numbers = trial.self_reported | {"train_loss": 0.1, "train_accuracy": 0.9, "parameters": 10.0}
        trials.append(trial.model_copy(update={"self_reported": numbers}))
    seen = watch(monkeypatch)
    manifest = make_manifest(trials, metric="accuracy", self_reported=True)
    tables.extract(tmp_path / ITERATION, manifest, design, claim)
    assert [(loss.metric, loss.direction) for loss in seen[0].loss.measures] == [("val_loss", "minimize")]
    assert [share.metric for share in seen[0].shares.measures] == ["accuracy"]
    assert seen[0].note.startswith("self-reported")


@pytest.mark.usefixtures("real_figure")
def test_the_figures_are_drawn_for_real_and_the_summary_shows_them(tmp_path: Path) -> None:
    extract(tmp_path)
    for name in FIGURES:
        assert (tmp_path / name).read_bytes().startswith(b"%PDF" if name.endswith("pdf") else b"\x89PNG")
    for name in ("comparison", "loss", "acc"):
        assert f"](figures/{name}.png)" in summary(tmp_path)


@pytest.mark.process
def test_importing_analysis_imports_neither_matplotlib_nor_scipy() -> None:
    code = "import autolab.reports.tables, sys; sys.exit(bool({'matplotlib', 'scipy', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
