"""What a batch of screened ideas becomes: its result in one sentence, a row an idea, and no claim anywhere."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from account_kit import compared
from exploration_kit import BATCH, IDEAS, SCORES, batch, failed_manifest, idea, screen_manifest, trial
from text_kit import headings

from autolab.errors import RecordError
from autolab.lab.schemas.experiment import Interval, Results, RunMetrics
from autolab.lab.schemas.outcomes import Fate, Verdict
from autolab.reports import screen_documents
from autolab.reports.results_table import COLUMNS
from autolab.reports.screen_documents import ScreenedBatch


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / f"analysis/tables/{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


TWO = Interval(n=2, mean=0.02, low=None, high=None, level=0.95)


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (batch(), "One of 4 ideas is built upon: Small CNN, +0.0123 in val_loss at one seed, unclaimed."),
        (
            batch(*IDEAS[1:]),
            "None of 3 ideas is built upon; the best was GELU | with a bar, -0.0011 in val_loss at one seed.",
        ),
        (batch(*IDEAS[2:]), "None of 2 ideas is built upon: none was measured."),
        (batch(IDEAS[0]), "The one idea is built upon: Small CNN, +0.0123 in val_loss at one seed, unclaimed."),
        (batch(IDEAS[3], manifest=None), "The one idea is not built upon: none was measured."),
        (
            batch(replace(IDEAS[0], n=2, gain=TWO), IDEAS[1]),
            "One of 2 ideas is built upon: Small CNN, +0.02 in val_loss at 2 seeds, unclaimed.",
        ),
        (
            batch(manifest=failed_manifest()),
            "Nothing was measured: trial baseline-s0: failed: exit status 1.",
        ),
        (
            batch(*(replace(one, fate=Fate.SCREENED, reason="") for one in IDEAS[:2])),
            "2 ideas screened, to learn from; the best was Small CNN, +0.0123 in val_loss at one seed.",
        ),
    ],
)
def test_a_batch_is_told_in_one_sentence(shown: ScreenedBatch, says: str) -> None:
    assert screen_documents.headline(shown) == says
    assert screen_documents.summary(shown).startswith("# batch3: ideas screened\n\n**")


def test_the_summary_has_a_row_an_idea_and_says_what_a_gain_rests_on() -> None:
    text = screen_documents.summary(batch())
    rows = [line for line in text.splitlines() if line.startswith("| h")]
    assert rows == [
        "| h5: Small CNN | +0.0123 | 0.0738 | 1 | 2.0 s | provisional |",
        "| h6: GELU \\| with a bar | -0.0011 | 0.0872 | 1 | 2.0 s | dropped: behind |",
        "| h7: Mixup |  |  | 0 |  | dropped: failed |",
        "| h8: Weight decay |  |  | 0 |  | dropped: review |",
    ]
    assert "Each gain is a single measurement, and the best of several is partly luck; the wanted gain is 0.01." in text
    assert "the base, commit `bbbbbbbbbbbb`, which scored 0.0861 (n = 1)." in text
    assert "- h7 (failed): trial h7-mixup-s0: failed: exit status 1\n- h8 (review): the tests fail: test_model" in text
    assert headings(text)[1:] == ["Dropped", "Evidence"]
    assert "a mean of" not in text and "self-reported" not in text


def test_a_lab_without_an_evaluator_marks_the_numbers_of_a_batch() -> None:
    text = screen_documents.summary(batch(manifest=screen_manifest(self_reported=True)))
    assert "**These numbers are self-reported**" in text


def test_the_results_of_a_batch_are_inconclusive_because_it_was_screened() -> None:
    results = screen_documents.results(batch())
    assert (results.status, results.assessment.verdict, results.assessment.reason) == (
        "completed",
        Verdict.INCONCLUSIVE,
        "screened",
    )
    assert results.confirmation is None and results.assessment.comparisons == ()
    assert results.metrics["val_loss"] == SCORES["h5-cnn"]
    arms = results.results.experiments
    assert {name: arm.status for name, arm in arms.items()} == {
        "h5-cnn": "completed",
        "h6-gelu": "completed",
        "h7-mixup": "failed",
        "h8-decay": "skipped",
    }
    assert arms["h5-cnn"].finding == "Small CNN, +0.0123 in val_loss at one seed; provisional, unclaimed"
    assert arms["h8-decay"].finding == "Weight decay, not measured; dropped: review"


def test_a_batch_whose_base_failed_has_no_verdict_and_no_numbers() -> None:
    results = screen_documents.results(batch(manifest=failed_manifest()))
    assert (results.status, results.assessment.verdict, results.metrics) == ("failed", None, {})
    assert results.error == "trial baseline-s0: failed: exit status 1"


def test_a_batch_of_which_nothing_was_measured_has_documents_without_a_run(tmp_path: Path) -> None:
    made = screen_documents.extract_screen(tmp_path, batch(IDEAS[3], manifest=None))
    assert made.metrics is None and made.results.run_id == ""
    assert set(every_file(tmp_path)) == set(made.results.artifacts)
    assert "analysis/tables/arms.csv" not in made.results.artifacts


# Files


def test_every_file_is_named_and_none_is_a_figure(tmp_path: Path) -> None:
    made = screen_documents.extract_screen(tmp_path, batch())
    assert set(every_file(tmp_path)) == set(made.results.artifacts)
    assert not [name for name in made.results.artifacts if "figures" in name]
    assert Results.load(tmp_path / "results.yaml") == made.results
    assert RunMetrics.load(tmp_path / "runs/run_0001/metrics.json") == made.metrics


def test_screening_documents_are_the_same_bytes_whoever_finished_first(tmp_path: Path) -> None:
    more = (trial("baseline", 0.087, 1), trial("h5-cnn", 0.075, 1))
    manifest = screen_manifest(*more, pairs=2, arm_seeds=2)
    screen_documents.extract_screen(tmp_path / "a", batch(manifest=manifest))
    screen_documents.extract_screen(tmp_path / "a", batch(manifest=manifest))
    turned = manifest.model_copy(update={"trials": manifest.trials[::-1]})
    screen_documents.extract_screen(tmp_path / "b", batch(manifest=turned))
    assert every_file(tmp_path / "a") == every_file(tmp_path / "b")


def test_the_tables_have_every_arm_and_every_idea_with_all_digits(tmp_path: Path) -> None:
    beyond = trial("h6-gelu", 0.5, 1)
    screen_documents.extract_screen(tmp_path, batch(manifest=screen_manifest(beyond)))
    arms = [row for row in read_table(tmp_path, "arms") if row["metric"] == "val_loss"]
    assert {row["arm"]: (row["n"], float(row["mean"])) for row in arms} == {
        arm: ("1", value) for arm, value in SCORES.items()
    }
    ideas = read_table(tmp_path, "ideas")
    assert [(row["arm"], row["fate"], row["reason"]) for row in ideas] == [
        ("h5-cnn", "provisional", ""),
        ("h6-gelu", "dropped", "behind"),
        ("h7-mixup", "dropped", "failed"),
        ("h8-decay", "dropped", "review"),
    ]
    assert float(ideas[0]["gain"]) == SCORES["baseline"] - SCORES["h5-cnn"] and ideas[3]["gain"] == ""
    trials = [row["trial"] for row in read_table(tmp_path, "trials")]
    assert trials == ["baseline-s0", "h5-cnn-s0", "h6-gelu-s0", "h7-mixup-s0"], "what no rung asks for is left out"


def test_a_screen_that_has_not_ended_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for manifest, line in (
        (screen_manifest(pairs=2, arm_seeds=2), "run_0001 has not ended"),
        (screen_manifest(arm_seeds=None), "arms, metric, direction or arm_seeds: missing"),
        (screen_manifest(comparisons=[compared(Verdict.SUPPORTED).value()]), "comparisons: do not follow"),
    ):
        with pytest.raises(RecordError, match=rf"^run_manifest\.json: {line}"):
            screen_documents.extract_screen(tmp_path, batch(manifest=manifest))
    assert every_file(tmp_path) == {}


def test_scores_are_given_as_lessons_hold_them() -> None:
    measured, base = IDEAS[0].measured, batch().base_measured
    assert measured is not None and base is not None
    assert (measured.n, measured.mean, measured.low) == (1, SCORES["h5-cnn"], None)
    assert (base.n, base.mean, base.low) == (1, SCORES["baseline"], None)
    assert IDEAS[3].measured is None and batch(manifest=None).base_measured is None


# results.tsv and docs_update.md


def test_the_rows_of_a_screen_have_the_title_and_fate_of_each_measured_idea() -> None:
    made = screen_documents.tsv_rows(batch())
    assert made is not None and (made.id, made.path, made.place) == (f"{BATCH}.run_0001", "results.tsv", "row")
    cells = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in made.text.split("\n")]
    assert [(row["gear"], row["arm"], row["n"], row["verdict"], row["description"]) for row in cells] == [
        ("screen", "baseline", "1", "", "the base of batch3"),
        ("screen", "h5-cnn", "1", "inconclusive", "Small CNN; provisional"),
        ("screen", "h6-gelu", "1", "inconclusive", "GELU | with a bar; dropped: behind"),
        ("screen", "h7-mixup", "0", "inconclusive", "Mixup; dropped: failed"),
    ]
    assert screen_documents.tsv_rows(batch(manifest=None)) is None


def test_a_title_with_tabs_and_line_breaks_stays_one_cell() -> None:
    made = screen_documents.tsv_rows(batch(idea("h5-cnn", "a\tb\nc" * 90)))
    assert made is not None
    rows = made.text.split("\n")
    assert {len(row.split("\t")) for row in rows} == {len(COLUMNS)} and max(map(len, rows)) < 500


def test_a_batch_updates_no_document_but_the_table() -> None:
    rows = screen_documents.tsv_rows(batch())
    assert rows is not None
    made = screen_documents.docs_update(batch(), replace(rows, path="tables/all.tsv"))
    assert made.path == f"experiments/{BATCH}/docs_update.md"
    assert "No changes needed: screened" in made.text
    assert "| [tables/all.tsv](../../tables/all.tsv) | a row an arm |" in made.text
    assert "| document |" not in screen_documents.docs_update(batch(manifest=None), None).text


def test_a_batch_is_one_row_of_verdicts_with_its_best_idea() -> None:
    row = screen_documents.judged(batch())
    assert (row.iteration_id, row.hypothesis_id, row.title, row.verdict) == (
        BATCH,
        "batch3",
        "Small CNN",
        "provisional",
    )
    assert row.gain == IDEAS[0].gain
    assert screen_documents.judged(batch(*IDEAS[1:])).verdict == "screened"
    failed = batch(manifest=failed_manifest())
    assert screen_documents.judged(replace(failed, ideas=IDEAS[2:])).verdict == "failed, no verdict"
    assert IDEAS[0].fate is Fate.PROVISIONAL
