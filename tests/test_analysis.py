"""What a finished run becomes: aggregate, results, tables, figure, summary; the same bytes each time."""

from __future__ import annotations

import csv
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from autolab import analysis, experiment, figures
from autolab.errors import RecordError
from autolab.records.experiment import Design, Hypothesis, Interval, Manifest, Results, RunMetrics, Trial
from autolab.records.outcomes import Outcome, Recommendation, Verdict

ITERATION = "2026-02-12T23-30-00Z_h1"
FIGURES = ("analysis/figures/comparison.png", "analysis/figures/comparison.pdf")
TABLES = ("arms", "trials", "pairs", "comparisons")
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


def extract(folder: Path, size: float = 0.1, design: Design | None = None, **changes: Any) -> analysis.Extracted:
    design = design or make_design()
    trials = changes.pop("trials", None) or make_trials(design, size, changes.get("self_reported", False))
    return analysis.extract(folder, make_manifest(trials, **changes), design, HYPOTHESIS)


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / f"analysis/tables/{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> str:
    return (folder / analysis.SUMMARY).read_text(encoding="utf-8")


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def real_figure() -> None:
    """Asks for the figure itself, which takes half a second; other tests get empty files in its place."""


@pytest.fixture(autouse=True)
def _quick_figure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(shown: figures.Arms, stem: Path) -> tuple[Path, Path]:
        stem.parent.mkdir(parents=True, exist_ok=True)
        paths = stem.with_suffix(".png"), stem.with_suffix(".pdf")
        for path in paths:
            path.touch()
        return paths

    if "real_figure" not in request.fixturenames:
        monkeypatch.setattr(figures, "arms", empty)


# documents


def test_a_supported_run_leaves_its_documents_and_names_them_all(tmp_path: Path) -> None:
    extracted = extract(tmp_path)
    assert set(every_file(tmp_path)) == set(extracted.files)
    assert Results.load(tmp_path / "results.yaml") == extracted.results
    assert RunMetrics.load(tmp_path / "runs/run_0001/metrics.json") == extracted.metrics
    assert extracted.results.assessment.verdict is Verdict.SUPPORTED
    assert extracted.results.recommendation is Recommendation.PROCEED
    assert extracted.results.artifacts == extracted.files


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
    changes = {"seconds": 99.0, "max_rss_bytes": 7, "attempt": 2, "commit": "e", "key": "z", "reused_from": "x"}
    slow = [trial.model_copy(update=changes) for trial in quick]
    extract(tmp_path / "a", trials=quick)
    extract(tmp_path / "b", trials=slow)
    volatile = ("attempt", "seconds", "max_rss_bytes", "output_bytes", "commit", "key", "reused_from", "message")
    for name in TABLES:
        rows = [read_table(tmp_path / which, name) for which in "ab"]
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
    assert "self_reported" not in summary(tmp_path)


def test_a_lab_without_evaluator_marks_every_number(tmp_path: Path) -> None:
    extracted = extract(tmp_path, self_reported=True)
    assert extracted.metrics.self_reported
    assert "**self_reported**" in summary(tmp_path)
    for name in ("arms", "trials"):
        assert {row["source"] for row in read_table(tmp_path, name)} == {"self_reported"}
    assert all("self-reported" in finding for finding in extracted.results.findings)


# what the summary says


def test_a_supported_result_is_called_unconfirmed_with_its_numbers(tmp_path: Path) -> None:
    comparison = extract(tmp_path).metrics.comparisons[0].difference
    text = summary(tmp_path)
    assert text.startswith("# GELU helps ## Decision\n\n**Supported, unconfirmed.** gelu is better than baseline")
    assert f"{comparison.mean:.4g} | {comparison.low:.4g} to {comparison.high:.4g}" in text
    assert "99% interval" in text
    assert "lower is better" in text


def test_a_refuted_result_says_that_the_gain_is_ruled_out(tmp_path: Path) -> None:
    results = extract(tmp_path, size=0.0).results
    assert results.recommendation is Recommendation.PIVOT
    assert "**Refuted.** A gain of 0.01 in val_loss is ruled out." in summary(tmp_path)


def test_identical_arms_are_told_as_a_change_that_does_nothing(tmp_path: Path) -> None:
    trials = [t.model_copy(update={"score": {"val_loss": 0.5 + t.index}}) for t in make_trials(make_design(), 0.0)]
    results = extract(tmp_path, trials=trials).results
    assert (results.assessment.reason, results.recommendation) == ("no_change", Recommendation.INVESTIGATE)
    assert "the change does nothing" in summary(tmp_path)
    assert "no different on average (no interval of the gain, 4 pairs)" in results.findings[0]


def test_criteria_stand_with_their_limits_and_levels(tmp_path: Path) -> None:
    design = make_design(criteria=[{"metric": "accuracy", "target": 0.99, "acceptable": 0.98, "failure": 0.5}])
    results = extract(tmp_path, design=design).results
    assert results.assessment.criteria == {"accuracy": "below_acceptable"}
    assert results.recommendation is Recommendation.PIVOT
    text = summary(tmp_path)
    assert "What was set before the run is not met: accuracy below_acceptable." in text
    assert "| 0.99 | 0.98 | 0.5 | below_acceptable |" in text


def test_a_failed_run_has_no_verdict_no_figure_and_names_the_trial(tmp_path: Path) -> None:
    extract(tmp_path)
    trials = make_trials(make_design(), 0.1)
    broken = {"outcome": Outcome.FAILED, "score": {}, "message": "exit status 1"}
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
    assert set(every_file(tmp_path)) == set(extracted.files)
    assert not any((tmp_path / name).exists() for name in FIGURES)
    assert "**Failed, no verdict.**" in summary(tmp_path)


def test_a_stub_run_has_no_verdict(tmp_path: Path) -> None:
    results = extract(tmp_path, kind="stub").results
    assert (results.assessment.verdict, results.recommendation) == (None, Recommendation.INVESTIGATE)


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
    honest = experiment.judge(experiment.recorded_plan(manifest, design, HYPOTHESIS, None), trials).comparisons
    manifest = manifest.model_copy(update={"comparisons": honest})
    assert analysis.extract(tmp_path / "a", manifest, design, HYPOTHESIS).metrics.comparisons == honest
    flattered = (honest[0].model_copy(update={"verdict": Verdict.SUPPORTED}),)
    with pytest.raises(RecordError, match="do not follow from its trials"):
        analysis.extract(tmp_path / "b", manifest.model_copy(update={"comparisons": flattered}), design, HYPOTHESIS)


# the decision


def test_a_decision_is_added_once_and_a_later_one_replaces_it(tmp_path: Path) -> None:
    extract(tmp_path)
    before = summary(tmp_path)
    analysis.append_decision(tmp_path, "new_hypothesis", "It does nothing.\n## Not a heading")
    once = summary(tmp_path)
    assert once.startswith(before)
    assert once.endswith("\n## Decision\n\n**new_hypothesis**: It does nothing.\n\\## Not a heading\n")
    analysis.append_decision(tmp_path, "new_hypothesis", "It does nothing.\n## Not a heading")
    assert summary(tmp_path) == once
    analysis.append_decision(tmp_path, "stop", "Enough.")
    assert summary(tmp_path) == before + "\n## Decision\n\n**stop**: Enough.\n"


def test_a_decision_without_a_summary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"analysis/summary\.md: cannot be read"):
        analysis.append_decision(tmp_path, "stop", "Enough.")


# the figure


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose chunks are all sound."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, size = 8, (0, 0)
    while place < len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        place += 12 + length
    return size


@pytest.mark.usefixtures("real_figure")
def test_the_figure_is_a_sound_png_and_a_pdf(tmp_path: Path) -> None:
    extract(tmp_path)
    width, height = png_size((tmp_path / FIGURES[0]).read_bytes())
    assert width > height > 300
    assert (tmp_path / FIGURES[1]).read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("real_figure")
def test_the_axes_name_metric_direction_delta_and_every_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.text import Text

    drawn: list[Any] = []
    monkeypatch.setattr(figures, "_save", lambda figure, stem: drawn.append(figure) or (stem, stem))
    extract(tmp_path, design=make_design(variants=[{"name": "gelu"}, {"name": "wide"}]))
    texts = " | ".join(text.get_text() for text in drawn[0].findobj(Text))
    for wanted in ("val_loss", "lower is better", "gain worth having 0.01", "baseline", "gelu\nsupported", "wide"):
        assert wanted in texts
    assert "99.5% interval" in texts


@pytest.mark.usefixtures("real_figure")
def test_a_comparison_without_an_interval_is_drawn_without_one(tmp_path: Path) -> None:
    trials = [t.model_copy(update={"score": {"val_loss": 0.5}}) for t in make_trials(make_design(), 0.0)]
    extracted = extract(tmp_path, trials=trials)
    assert extracted.metrics.comparisons[0].difference == Interval(n=4, mean=0.0, low=None, high=None, level=0.99)
    assert png_size((tmp_path / FIGURES[0]).read_bytes())[0] > 300


@pytest.mark.usefixtures("real_figure")
def test_a_title_with_dollars_or_in_another_script_is_drawn(tmp_path: Path) -> None:
    title = HYPOTHESIS.model_copy(update={"title": "$\\nosuch{ costs 5$ \N{CJK UNIFIED IDEOGRAPH-5B66}"})
    design = make_design()
    analysis.extract(tmp_path, make_manifest(make_trials(design, 0.1)), design, title)
    assert png_size((tmp_path / FIGURES[0]).read_bytes())[0] > 300


def test_importing_analysis_imports_neither_matplotlib_nor_scipy() -> None:
    code = "import autolab.analysis, sys; sys.exit(bool({'matplotlib', 'scipy', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
