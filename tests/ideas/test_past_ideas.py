"""What a prompt quotes of the ideas that were tried: each with its whole change and its result, on a bounded length."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_kit import lesson

from autolab.ideas.lessons import families_of_lessons
from autolab.ideas.past_ideas import ALL, LONGEST, failures, history
from autolab.lab.schemas.experiment import Lesson


def rows(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("- h")]


def line_of(text: str, head: str) -> str:
    (line,) = [line for line in text.split("\n") if line.startswith(head)]
    return line


def test_each_of_two_hundred_ideas_is_quoted_oldest_first_with_its_whole_change_and_result() -> None:
    known = []
    for number in range(200, 0, -1):
        known.append(lesson(number, (number % 7 - 3) / 2, changes={"width": number, "activation": "gelu"}))
    text = history(known)
    assert [row.split(".")[0] for row in rows(text)] == [f"- h{number}" for number in range(1, 201)]
    for number, row in enumerate(rows(text), 1):
        assert json.dumps({"width": number, "activation": "gelu"}) in row and " -> " in row


def test_a_row_says_what_was_changed_measured_and_paid() -> None:
    one = lesson(3, 1.5, outcome="kept", changes={"activation": "gelu"}, family="activation", title="A\n# ROLE\nb")
    slow = lesson(
        4, 0.5, code_change="+1 -1 lines: models/net.py: -relu(x) +gelu(x)", seconds=3.0, baseline_seconds=2.0
    )
    screened = lesson(5, 0.5, reason="screened", outcome="provisional")
    broken = lesson(6, None, reason="failed", base="fedcba9876")
    assert history([broken, screened, slow, one]).split("\n")[3:9] == [
        "on base 0123456:",
        '- h3. A # ROLE b [activation] {"activation": "gelu"} -> supported, kept: gain +0.015 in 9 pairs',
        "- h4. Idea 4 [f] +1 -1 lines: models/net.py: -relu(x) +gelu(x) -> inconclusive: gain +0.005 in 9 pairs,"
        " 1.5 times the time",
        "- h5. Idea 5 [f] -> provisional: gain +0.005 in 9 pairs",
        "on base fedcba9:",
        "- h6. Idea 6 [f] -> failed (failed)",
    ]


def test_the_best_the_near_misses_and_the_failures_are_named() -> None:
    known = [lesson(number, -0.5) for number in range(60, 20, -1)]
    known += [lesson(20 - place, mean) for place, mean in enumerate([1.5, 0.4, None, 3.0, 0.8, 2.0, None])]
    text = history(known)
    assert text.startswith("47 ideas were tried, oldest first")
    assert line_of(text, "Supported") == "Supported, best first: h17 +0.03, h15 +0.02, h20 +0.015"
    assert line_of(text, "Near misses").endswith(": h16 +0.008, h19 +0.004")
    assert line_of(text, "Failed") == "Failed (crashed or refused) or changed nothing: h18, h14"
    assert text.endswith("Families:\nf: 47 tried, 3 supported, best gain +0.03")


def test_without_a_lesson_it_says_so() -> None:
    assert history([]) == "Nothing was tried in this lab yet."
    assert failures([lesson(1, 0.5)]) == ""


def test_the_newest_failures_are_quoted_with_the_end_of_their_error() -> None:
    known = [lesson(number, None, error=f"line 1\n{'x' * 5000}\nValueError: {number}") for number in range(9, 0, -1)]
    text = failures(known)
    assert [part.split(".")[0] for part in text.split("\n\n")] == ["h9", "h8", "h7"]
    assert text.count("ValueError") == 3 and "line 1" not in text and len(text) < 6000


def test_families_that_were_tried_together_count_each() -> None:
    assert families_of_lessons("norm+width") == ("norm", "width") and families_of_lessons(None) == ()
    known = [lesson(1, 2.0, family="norm+width"), lesson(2, None, family="norm"), lesson(3, family=None)]
    assert history(known).split("Families:\n")[1].split("\n") == [
        "norm: 2 tried, 1 supported, best gain +0.02",
        "no family: 1 tried, 0 supported, best gain +0",
        "width: 1 tried, 1 supported, best gain +0.02",
    ]


def test_of_a_thousand_ideas_the_best_near_failed_and_newest_stay() -> None:
    known = [lesson(number, -0.5) for number in range(1000, 0, -1)]
    for number, mean in ((3, 9.0), (5, 0.9), (7, None)):
        known[1000 - number] = lesson(number, mean)
    quoted = [row.split(".")[0] for row in rows(history(known))]
    assert quoted[:3] == ["- h3", "- h5", "- h7"] and quoted[-1] == "- h1000"
    assert "1000 tried" in history(known) and len(quoted) <= ALL


WORDS = st.text(max_size=400)
LESSONS = st.builds(
    lambda number, mean, **more: lesson(number, mean, **more),
    st.integers(1, 10**9),
    st.none() | st.floats(-1e3, 1e3),
    title=WORDS,
    family=st.none() | WORDS,
    reason=WORDS,
    error=WORDS,
    code_change=WORDS,
    changes=st.dictionaries(WORDS, WORDS, max_size=3),
    outcome=st.none() | st.sampled_from(["kept", "retracted", "search_only", "suspicious"]),
)


@settings(max_examples=40)
@given(st.lists(LESSONS, min_size=1, max_size=8), st.integers(1, 100))
def test_however_many_lessons_there_are_and_whatever_they_say_the_length_is_bounded(
    some: list[Lesson], times: int
) -> None:
    assert len(history(some * times)) < LONGEST


def test_the_longest_lessons_are_shortened_before_any_is_left_out() -> None:
    def longest(number: int, mean: float | None, **more: Any) -> Lesson:
        words = {"title": "t" * 500, "changes": {"c" * 1500: 1}, "outcome": "search_only"}
        return lesson(number, mean, **(words | {"family": f"{number}" * 99} | more))

    known = [longest(number, mean) for number, mean in enumerate([1.23456, 0.123456, None, -1.23456] * 20)]
    text = history(known)
    assert LONGEST / 2 < len(text) < LONGEST and len(rows(text)) == 80


def test_iteration_10000_is_told_as_briefly_as_iteration_200() -> None:
    def length(count: int) -> int:
        numbers = range(count, 0, -1)
        return len(history([lesson(n, (n % 7 - 3) / 2, family=f"family {n % 40}") for n in numbers]))

    assert length(10_000) < length(200) + 500, "longer numbers, no more lines"
