"""The words of a verdict: each has its heading and one plain sentence, with the numbers of the experiment."""

from __future__ import annotations

import pytest
from account_kit import account, compared, confirmed

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Comparison, Results
from autolab.lab.schemas.outcomes import Verdict
from autolab.stats import wording

SEQUENTIAL = StoppingRule()


@pytest.mark.parametrize(
    ("verdict", "status", "reason", "outcome", "heading"),
    [
        ("supported", "completed", "", "kept", "supported, kept"),
        ("inconclusive", "completed", "retracted", "retracted", "retracted"),
        ("inconclusive", "completed", "search_only", "search_only", "not kept"),
        ("inconclusive", "completed", "suspicious", "suspicious", "suspicious"),
        ("supported", "completed", "", None, "supported, unconfirmed"),
        ("supported", "completed", "deterministic", None, "supported, unconfirmed"),
        ("refuted", "completed", "", None, "refuted"),
        ("refuted", "completed", "accuracy below_acceptable", None, "refuted"),
        ("inconclusive", "completed", "futile", None, "inconclusive, futile"),
        ("inconclusive", "completed", "no_change", None, "inconclusive, no change"),
        ("inconclusive", "completed", "accuracy unmeasured", None, "inconclusive"),
        ("inconclusive", "completed", "screened", None, "inconclusive, screened"),
        ("inconclusive", "completed", "screened", "provisional", "provisional"),
        ("inconclusive", "completed", "behind", "dropped", "dropped"),
        (None, "failed", "trial a-s0: failed", None, "failed, no verdict"),
        (None, "completed", "stub: nothing was measured", None, "no verdict"),
    ],
)
def test_every_end_of_an_iteration_has_its_heading(
    verdict: str | None, status: str, reason: str, outcome: str | None, heading: str
) -> None:
    assert wording.heading(Verdict(verdict) if verdict else None, status, reason, outcome) == heading


def ended(verdict: Verdict, reason: str = "", *, pairs: int = 4, parts: int = 0, **changes: object) -> Results:
    one = compared(verdict)
    counted = one.difference.model_copy(update={"n": parts or pairs})
    one = one.model_copy(update={"difference": counted, "pairs": pairs, "reason": reason, **changes})
    results = account(verdict, one).results
    return results.model_copy(update={"assessment": results.assessment.model_copy(update={"reason": reason})})


def explained(results: Results, rule: StoppingRule = SEQUENTIAL) -> dict[str, str]:
    return wording.explained(results, rule, "val_loss", 0.01)


def test_every_word_that_can_be_used_has_one_or_two_sentences() -> None:
    for word, sentence in wording.MEANINGS.items():
        assert sentence.endswith(".") and sentence.count(". ") < 2, word


@pytest.mark.parametrize(
    ("results", "word", "says"),
    [
        (ended(Verdict.INCONCLUSIVE, "futile", pairs=5), "futile", "After 5 pairs a gain of 0.01 or more in val_loss"),
        (
            ended(Verdict.INCONCLUSIVE, "futile"),
            "futile",
            "is given up by mistake at most 1 time in 4.",
        ),
        (ended(Verdict.INCONCLUSIVE, "budget", pairs=24), "budget", "All 24 planned pairs are used"),
        (ended(Verdict.INCONCLUSIVE, "no_change"), "no_change", "the change has no measured effect."),
        (ended(Verdict.INCONCLUSIVE, "deterministic"), "deterministic", "more seeds prove nothing."),
        (ended(Verdict.SUPPORTED, "deterministic", pairs=2, parts=20), "deterministic", "; 20 equal parts of the"),
        (
            ended(Verdict.REFUTED),
            "refuted",
            "is ruled out. A change with such a gain is refuted by mistake at most 1 time in 20.",
        ),
        (ended(Verdict.SUPPORTED), "supported", "1 time in 200), and the mean gain is at least 0.005 (half of"),
        (ended(Verdict.SUPPORTED), "unconfirmed", "not measured on fresh seeds yet"),
        (confirmed("kept").results, "kept", "on fresh seeds and passed the holdout. Later iterations"),
        (confirmed("kept", "none").results, "kept", "again on fresh seeds. Later iterations build on this variant."),
        (confirmed("retracted", "not_asked").results, "retracted", "was not repeated on fresh seeds, so it is not"),
        (confirmed("retracted", "failed").results, "retracted", "was not repeated on the holdout, so it is not"),
        (confirmed("search_only", "used_up").results, "search_only", "but the holdout has no questions left"),
        (
            confirmed("search_only", "failed").results,
            "search_only",
            "the holdout does not show it beyond its error",
        ),
        (confirmed("suspicious").results, "suspicious", "you decide with `autolab review`."),
        (confirmed("kept", "none").results, "alone", "on this evaluation set alone"),
    ],
)
def test_a_sentence_has_the_numbers_of_the_experiment(results: Results, word: str, says: str) -> None:
    sentence = explained(results)[word]
    assert says in sentence and "{" not in sentence


@pytest.mark.parametrize(
    ("rule", "word", "says"),
    [
        ({"rule": "fixed"}, "refuted", "refuted by mistake at most 1 time in 200"),
        ({"rule": "fixed"}, "supported", "the mean gain is at least 0.01."),
        ({"rule": "sprt", "deviation": 0.01, "beta": 0.1}, "futile", "given up by mistake at most 1 time in 10."),
    ],
)
def test_the_errors_are_those_of_the_rule(rule: dict[str, object], word: str, says: str) -> None:
    verdict = Verdict.INCONCLUSIVE if word == "futile" else Verdict(word)
    results = ended(verdict, "futile" if word == "futile" else "")
    assert says in explained(results, StoppingRule.from_value(rule, "rule"))[word]


@pytest.mark.parametrize(
    ("results", "label"),
    [
        (confirmed("kept").results, "Kept"),
        (confirmed("kept", "none").results, "Kept on this evaluation alone"),
        (confirmed("retracted", "not_asked").results, "Retracted"),
        (confirmed("search_only", "failed").results, "Not kept"),
        (confirmed("suspicious").results, "Set aside (suspicious)"),
        (ended(Verdict.SUPPORTED), "Supported, not confirmed"),
        (ended(Verdict.REFUTED), "Refuted"),
        (ended(Verdict.INCONCLUSIVE, "no_change"), "Inconclusive (no change)"),
        (ended(Verdict.INCONCLUSIVE, "accuracy unmeasured"), "Inconclusive"),
        (account(None).results, "Failed"),
    ],
)
def test_a_documents_first_words_are_the_outcome(results: Results, label: str) -> None:
    assert wording.label(results) == label


def test_only_the_words_that_were_used_are_explained_in_the_order_of_the_heading() -> None:
    assert list(explained(confirmed("kept").results)) == ["supported", "kept", "confirmed"]
    assert list(explained(confirmed("kept", "none").results)) == ["supported", "kept", "alone", "confirmed"]
    fell = explained(confirmed("retracted", "not_asked").results)
    assert list(fell) == ["retracted", "supported"], "the table still says what the search found"
    assert list(explained(ended(Verdict.INCONCLUSIVE, "futile"))) == ["inconclusive", "futile"]
    assert list(explained(account(None).results)) == ["failed"]


def test_the_word_of_another_variant_is_explained_with_its_own_pairs() -> None:
    other = compared(Verdict.INCONCLUSIVE, 0.001, arm="other").model_copy(update={"reason": "futile", "pairs": 7})
    told: tuple[Comparison, ...] = (compared(Verdict.SUPPORTED), other)
    assert explained(account(Verdict.SUPPORTED, *told).results)["futile"].startswith("After 7 pairs")


def test_what_a_limit_refuted_is_not_said_to_be_ruled_out_by_the_gain() -> None:
    results = account(Verdict.SUPPORTED).results
    assessment = results.assessment.model_copy(update={"verdict": Verdict.REFUTED, "reason": "accuracy failed"})
    told = explained(results.model_copy(update={"assessment": assessment}))
    assert told["refuted"].startswith("A limit that was set before the run is not met")
