"""What a claim says: one run, one set of numbers, the steps that led to it, and two things at most."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from account_kit import DESIGN, account
from exploration_kit import claim, exploration, trial

from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.experiment import Confirmation, Design, Manifest, Results
from autolab.lab.schemas.outcomes import Recommendation, Verdict
from autolab.reports import claim_words, decision_table, figures, iteration_documents, passages, results_table, tables
from autolab.reports.engine_words import engine_words
from autolab.reports.exploration_account import steps_table
from autolab.reports.passages import Account
from autolab.reports.results_table import COLUMNS
from autolab.stats import plan, verdict
from autolab.verifiers import docs_checks

ENDS = {
    ("kept", "passed"): "Claimed: ",
    ("kept", "none"): "Claimed on this evaluation alone: ",
    ("search_only", "failed"): "Claim failed: ",
    ("search_only", "used_up"): "Claim failed: ",
    ("retracted", "not_asked"): "Claim failed: ",
    ("suspicious", "passed"): "Claim set aside (suspicious): ",
}
BOTH = "on this evaluation split, by fresh seeds, and beyond it, by the holdout."


def all_documents(told: Account) -> dict[str, str]:
    entries = {
        "journal": iteration_documents.journal_entry(told),
        "findings": iteration_documents.findings_entry(told),
        "iteration findings": iteration_documents.iteration_findings(told),
        "report": iteration_documents.report(told, None),
    }
    texts = {name: entry.text for name, entry in entries.items()}
    for entry in iteration_documents.paper_entries(told, ("paper/ralph.md",)):
        texts["paper"] = entry.text
    texts["summary"] = iteration_documents.summary(told)
    texts["merge request"] = iteration_documents.merge_request(told, "c" * 40, "b" * 40, ["train.py"], Claims())
    return texts


# The words


@pytest.mark.parametrize(("outcome", "holdout"), ENDS)
def test_every_document_begins_with_what_became_of_the_claim(outcome: str, holdout: str) -> None:
    told = claim(outcome, holdout)
    start = ENDS[outcome, holdout]
    for name, text in all_documents(told).items():
        assert f"**{start}" in text or f": {start}" in text, name
        for word in ("Kept", "retracted", "Retracted", "not kept", "in the search"):
            assert word not in text, (name, word)
    summary = iteration_documents.summary(told)
    assert f"- *{start.removesuffix(': ').lower()}*: " in summary and "*confirmed*" not in summary


def test_a_kept_claim_says_two_things_and_without_a_holdout_one() -> None:
    both = claim("kept")
    assert both.docs.claim.endswith(BOTH) and "better than the base by 0.0195 in val_loss" in both.docs.claim
    alone = claim("kept", "none")
    assert alone.docs.claim.endswith("on this evaluation alone, by fresh seeds.") and "holdout" not in alone.docs.claim
    for name, text in all_documents(alone).items():
        assert "on this evaluation alone" in text, name
    for name, text in all_documents(both).items():
        assert "evaluation alone" not in text, name


@pytest.mark.parametrize(
    ("outcome", "holdout", "says"),
    [
        ("search_only", "failed", "The holdout does not show it beyond its error"),
        ("search_only", "used_up", "The holdout has no question left"),
        ("kept", "none", "The lab has no holdout, so it may be a fit to this evaluation split."),
        ("kept", "passed", "a useless change gets there at most 1 time in 200. The holdout shows it beyond"),
        ("retracted", "not_asked", "a gain is neither shown nor ruled out (futile)."),
    ],
)
def test_the_inference_is_what_follows_from_the_rule_and_the_holdout(outcome: str, holdout: str, says: str) -> None:
    told = claim(outcome, holdout)
    assert says in told.docs.inference
    assert (told.docs.claim == "Nothing is claimed, and the base stays.") is (outcome != "kept")


def test_a_claim_that_is_ruled_out_says_so() -> None:
    told = claim("retracted", "not_asked")
    assert told.lead is not None
    refuted = told.lead.model_copy(update={"verdict": Verdict.REFUTED, "reason": ""})
    judged = told.results.assessment.model_copy(update={"verdict": Verdict.REFUTED, "comparisons": (refuted,)})
    told = replace(told, results=told.results.model_copy(update={"assessment": judged}))
    assert "9 fresh seeds; a gain of 0.01 or more is ruled out" in passages.headline(told)
    assert "By the rule, a gain of 0.01 or more is ruled out." in engine_words(told).inference


def undecided() -> Account:
    """A claim that the budget ended before its rule decided: its run is there, and no confirmation."""
    told = claim("retracted", "not_asked")
    assert told.lead is not None
    iteration = "2026-02-12T23-50-00Z_claim2"
    compared = told.lead.model_copy(update={"reason": "budget"})
    judged = told.results.assessment.model_copy(update={"reason": "budget", "comparisons": (compared,)})
    changes = {"assessment": judged, "confirmation": None, "iteration_id": iteration}
    run = told.manifest.model_copy(update={"iteration_id": iteration})
    told = replace(told, manifest=run, confirm=None, confirm_metrics=None)
    told = replace(told, results=told.results.model_copy(update=changes))
    return replace(told, docs=engine_words(told, ("paper/ralph.md",)))


def test_a_claim_that_a_budget_ended_is_undecided_and_goes_on() -> None:
    told = undecided()
    assert claim_words.standing(told.results) == "claim undecided"
    for name, text in all_documents(told).items():
        assert "**Claim undecided: val_loss 0.1420 -> 0.1410" in text and "9 fresh seeds; all planned" in text, name
    summary = iteration_documents.summary(told)
    assert "| val_loss gain of small_cnn over base (fresh seeds, 9 pairs) |" in summary
    assert "- *claim undecided*: The pairs so far neither show nor rule out the gain." in summary
    assert "claim (run_0002)" in summary and "*search" not in summary
    assert told.docs.inference.endswith("(budget). The same claim goes on with these pairs.")
    assert told.docs.claim == "Nothing is claimed, and the base stays."
    assert not docs_checks.docs_answer(told.docs, ("paper/ralph.md",))
    report = iteration_documents.report(told, None).text
    assert "The same claim goes on with the pairs that it has" in report and "fresh seeds, which no screen" in report


def test_a_claim_whose_run_failed_is_failed_and_not_undecided() -> None:
    results = account(None).results.model_copy(update={"iteration_id": "x_claim1"})
    assert (claim_words.label(results), claim_words.standing(results)) == ("Failed", "failed, no verdict")


def test_more_cut_trials_end_a_claim() -> None:
    told = claim("retracted", "not_asked", reason="more_cut")
    assert "but more trials were cut than of the baseline" in passages.headline(told)
    assert "more trials of the working commit than of the base were cut" in iteration_documents.summary(told)


def test_the_engines_words_state_no_number_that_is_not_in_the_account() -> None:
    told = claim("kept")
    words = engine_words(told, ("paper/ralph.md",))
    assert words.observation == (
        "Over 9 fresh seeds, val_loss was 0.1420 at the base and 0.1210 at the working commit: a gain of 0.0210"
        " (99% CI 0.0150 to 0.0270). The holdout passed."
    )
    assert not docs_checks.docs_answer(words, ("paper/ralph.md",))
    assert [update.path for update in words.paper] == ["paper/ralph.md"]
    for text in (words.observation, words.inference, words.claim):
        assert len(text) < 400, "the journal shows them whole"
    failed = engine_words(claim("search_only", "failed"), ("paper/ralph.md",))
    assert not failed.paper and failed.no_changes == "Claim failed; nothing new is claimed."
    assert not docs_checks.docs_answer(failed, ("paper/ralph.md",))
    assert engine_words(told).no_changes


def test_a_claim_whose_run_failed_claims_nothing() -> None:
    words = engine_words(account(None))
    assert words.observation == "The run gave no result: trial small_cnn-s0: failed: shape."
    assert words.claim == "Nothing is claimed, and the base stays."


# One run


def test_the_one_run_stands_once_in_every_table() -> None:
    told = claim("kept")
    rows = [line.split(" | ") for line in decision_table.decision_table(told).splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == [
        "val_loss gain of small_cnn (fresh seeds, 9 pairs)",
        "val_loss gain of small_cnn (holdout)",
        "val_loss gain of small_cnn (claimed)",
    ]
    assert [row[3].strip("| ") for row in rows] == ["supported", "passed", "claimed"]
    means = decision_table.arms_table(told).splitlines()[2:]
    assert [line.split(" | ")[0] for line in means] == ["| base", "| small_cnn"]
    assert len(told.runs) == 1
    assert "[claim (run_0002)](../runs/run_0002/run_manifest.json)\n" in iteration_documents.summary(told)


@pytest.mark.parametrize(
    ("outcome", "holdout", "says"),
    [
        ("kept", "passed", "claimed: A small CNN"),
        ("kept", "none", "claimed on this evaluation alone: A small CNN"),
        ("retracted", "not_asked", "claim failed: A small CNN"),
    ],
)
def test_the_rows_of_a_claim_say_what_became_of_it(outcome: str, holdout: str, says: str) -> None:
    told = claim(outcome, holdout)
    text = results_table.rows(told.manifest, told.metrics, "val_loss", "A small CNN", told.confirmation)
    cells = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in text.split("\n")]
    assert [(row["gear"], row["run"], row["n"], row["description"]) for row in cells] == [
        ("claim", "run_0002", "9", says)
    ] * 2


# The steps


def test_documents_of_a_claim_have_its_steps_each_with_its_single_measurement() -> None:
    for outcome, holdout in (("kept", "passed"), ("retracted", "not_asked")):
        for name, text in all_documents(claim(outcome, holdout)).items():
            assert "| 2 | Idea 2 | +0.002 | unclaimed: one measurement | batch2 | 200000000000 |" in text, name
            assert text.count("| step | idea |") == 1, name
            assert "- Step 2: What idea 2 changes." in text, name
            assert (
                "What led to it: 21 ideas screened, 3 provisional, 2 claims, 1 kept; 64 trials, 6 for calibration,"
                " 40 for screens, 18 for claims; error rate spent on claims 0.0067.\n" in text
            ), name


def test_documents_without_an_exploration_have_no_steps() -> None:
    told = replace(claim("kept"), exploration=None)
    for name, text in all_documents(replace(told, docs=engine_words(told, ("paper/ralph.md",)))).items():
        assert "step" not in text and "What led" not in text, name


def test_a_long_stack_is_bounded_and_the_steps_left_out_are_counted() -> None:
    newest = tuple(f"What idea {number} changes." for number in range(41, 51))
    many = exploration(50, unclaimed=1_000, ideas_screened=4_000, ideas=newest)
    table = steps_table(many, "val_loss", 10)
    assert table.count("\n| 9") == 9 and "\n| 1000 | Idea 50 |" in table and "\n| 990 |" not in table
    assert "\n990 earlier steps before these.\n" in table
    assert "\n- Step 991: What idea 41 changes.\n" in table and table.endswith("- Step 1000: What idea 50 changes.")
    told = replace(claim("kept"), exploration=many)
    texts = all_documents(told)
    assert texts["report"].count("unclaimed: one measurement") == 50
    assert texts["journal"].count("unclaimed: one measurement") == 10
    assert max(map(len, texts.values())) < 12_000


def test_a_step_of_several_seeds_says_so() -> None:
    (step,) = exploration(1).steps
    table = steps_table(exploration(1, steps=(step.model_copy(update={"seeds": 3}),)), "val_loss")
    assert "unclaimed: the mean of 3 measurements" in table


# From trials to files

PAIRS = 12
SEQUENTIAL = {"rule": "sequential", "max_pairs": PAIRS, "confirm_pairs": PAIRS}


def claim_run(size: float) -> Manifest:
    draw = random.Random(5)
    trials = []
    for index in range(PAIRS):
        base = draw.gauss(0.5, 0.01)
        trials += [
            trial("base", base, index),
            trial("working", base - size + draw.gauss(0, 0.001), index),
        ]
    value: dict[str, Any] = {
        "run_id": "run_0001",
        "iteration_id": DESIGN["iteration_id"],
        "kind": "claim",
        "status": "completed",
        "git": {"control_plane_commit": "a", "candidate_commit": "b" * 40, "base_commit": "d" * 40, "dirty": False},
        "location": "local",
        "command": "{python} train.py",
        "sync": {"artifact_sync_to_local": {"status": "ok"}},
        "verifier_results": {},
        "started_at": "2026-02-12T23:30:00Z",
        "artifacts": {},
        "rule": SEQUENTIAL,
        "metric": "val_loss",
        "direction": "minimize",
        "success_delta": 0.01,
        "pairs": PAIRS,
        "arms": [
            {"name": "base", "role": "baseline", "code": "base"},
            {"name": "working", "role": "variant", "code": "candidate"},
        ],
        "trials": trials,
    }
    return Manifest.from_value(value, "run_manifest.json")


def extract(folder: Path, outcome: str, holdout: str = "passed", size: float = 0.05) -> tables.Extracted:
    told, run = account(), claim_run(size)
    design = Design.from_value(
        DESIGN
        | {"reproducibility": {"seeds": {"max_pairs": PAIRS}}, "variants": [{"name": "working"}]}
        | {"metrics": {"primary": "val_loss", "success_delta": 0.01, "direction": "minimize"}},
        "design.yaml",
    )
    judged = verdict.judge(plan.recorded_plan(run, design, told.hypothesis, None), run.trials).comparisons[0]
    about = {"run_id": "run_0001", "arm": "working", "difference": judged.difference.value(), "shrunken": 0.04}
    about |= {"reason": judged.reason or judged.verdict.value, "holdout": holdout, "outcome": outcome, "claim": 1}
    confirmation = Confirmation.from_value(about | {"alpha": 0.005}, "confirmation")
    return tables.extract(folder, run, design, told.hypothesis, confirmation, run, exploration=exploration())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[figures.Run]:
    """What is to be drawn, in place of drawing it."""
    seen: list[figures.Run] = []

    def see(shown: figures.Run, folder: Path) -> tuple[str, ...]:
        seen.append(shown)
        return ()

    monkeypatch.setattr(figures, "draw", see)
    return seen


def test_a_claim_extracts_one_set_of_rows_and_its_pairs_once(tmp_path: Path, drawn: list[figures.Run]) -> None:
    results = extract(tmp_path, "kept").results
    assert claim_words.is_claim(results) and claim_words.standing(results) == "claimed"
    for name in ("arms", "trials", "pairs", "comparisons"):
        with open(tmp_path / f"analysis/tables/{name}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["run"] for row in rows} == {"run_0001"}
        if name == "comparisons":
            assert len(rows) == 1
    (shown,) = drawn
    assert shown.title == "A small CNN: claimed" and shown.runs == ("run_0001",) and shown.primary_run == ""
    (gain,) = shown.gains
    assert (gain.arm, gain.verdict) == ("working", "fresh seeds: claimed")
    assert len(gain.pairs) == results.assessment.comparisons[0].pairs
    (finding,) = results.findings
    assert finding.startswith("working on fresh seeds: gain 0.0") and finding.endswith("confirmed, holdout passed")
    assert results.recommendation is Recommendation.PROCEED
    text = (tmp_path / "analysis/summary.md").read_text()
    assert text.startswith("# A small CNN\n\n**Claimed: val_loss 0.") and "| 3 | Idea 3 | +0.003 |" in text


def test_a_failed_claim_has_the_verdict_of_its_own_rule(tmp_path: Path, drawn: list[figures.Run]) -> None:
    results = extract(tmp_path, "retracted", "not_asked", 0.0).results
    compared = results.assessment.comparisons[0]
    assert results.assessment.verdict is compared.verdict is Verdict.REFUTED
    assert results.recommendation is Recommendation.PIVOT
    assert "**Claim failed: val_loss 0." in (tmp_path / "analysis/summary.md").read_text()
    assert drawn[0].gains[0].verdict == "fresh seeds: claim failed"


def test_a_claim_that_the_holdout_refused_is_inconclusive(tmp_path: Path, drawn: list[figures.Run]) -> None:
    results = extract(tmp_path, "search_only", "failed").results
    assert (results.assessment.verdict, results.assessment.reason) == (Verdict.INCONCLUSIVE, "search_only")
    assert Results.load(tmp_path / "results.yaml") == results and len(drawn) == 1


def test_a_claims_files_are_the_same_bytes_each_time(tmp_path: Path, drawn: list[figures.Run]) -> None:
    for name in ("a", "b"):
        extract(tmp_path / name, "kept")
    extract(tmp_path / "b", "kept")
    files = [
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in sorted((tmp_path / name).rglob("*.*"))}
        for name in ("a", "b")
        if drawn
    ]
    assert files[0] == files[1] and len(files[0]) > 5
