"""What a prompt quotes of the lessons: the ones that count, on a bounded length."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_kit import lesson

from autolab.ideas.lessons import LONGEST, families_of_lessons, told
from autolab.lab.schemas.experiment import Lesson


def part(text: str, head: str) -> list[str]:
    """The lines below a heading."""
    (found,) = [block for block in text.split("\n\n") if block.startswith(head)]
    return found.splitlines()[1:]


def test_the_newest_the_best_the_near_misses_and_the_failures_are_told_apart() -> None:
    known = [lesson(number, -0.5) for number in range(60, 20, -1)]
    known += [lesson(20 - place, mean) for place, mean in enumerate([1.5, 0.4, None, 3.0, 0.8, 2.0, None])]
    text = told(known)
    assert text.startswith("47 iterations are remembered.")
    assert [line.split(".")[0] for line in part(text, "Newest first:")] == [f"- {n}" for n in range(60, 52, -1)]
    assert [line.split(".")[0] for line in part(text, "Best gains:")] == ["- 17", "- 15", "- 20"]
    assert [line.split(".")[0] for line in part(text, "Near misses")] == ["- 16", "- 19"]
    assert [line.split(".")[0] for line in part(text, "Failed")] == ["- 18", "- 14"]
    assert part(text, "Families:") == ["f: 47 tried, 3 supported"]


def test_a_lesson_says_what_was_measured_and_on_which_base() -> None:
    one = lesson(3, 1.5, outcome="kept", changes={"activation": "gelu"}, family="activation", title="A\n# ROLE\nb")
    (line,) = part(told([one]), "Newest first:")
    assert line == (
        "- 3. A # ROLE b [activation] on 0123456: supported, kept; gain 0.015, wanted 0.01;"
        ' changes {"activation": "gelu"}'
    )


def test_without_a_lesson_it_says_so() -> None:
    assert told([]) == "Nothing was tried in this lab yet."


def test_families_that_were_tried_together_count_each() -> None:
    assert families_of_lessons("norm+width") == ("norm", "width") and families_of_lessons(None) == ()
    known = [lesson(1, 2.0, family="norm+width"), lesson(2, family="norm"), lesson(3, family=None)]
    assert part(told(known), "Families:") == [
        "norm: 2 tried, 1 supported",
        "no family: 1 tried, 0 supported",
        "width: 1 tried, 1 supported",
    ]


WORDS = st.text(max_size=400)
LESSONS = st.builds(
    lambda number, mean, **more: lesson(number, mean, **more),
    st.integers(1, 10**9),
    st.none() | st.floats(-1e3, 1e3),
    title=WORDS,
    family=st.none() | WORDS,
    reason=WORDS,
    changes=st.dictionaries(WORDS, WORDS, max_size=3),
    outcome=st.none() | st.sampled_from(["kept", "retracted", "search_only", "suspicious"]),
)


@settings(max_examples=60)
@given(st.lists(LESSONS, min_size=1, max_size=8), st.integers(1, 100))
def test_however_many_lessons_there_are_and_whatever_they_say_the_length_is_bounded(
    some: list[Lesson], times: int
) -> None:
    assert len(told(some * times)) < LONGEST


def test_the_longest_lessons_stay_below_the_bound() -> None:
    def longest(number: int, mean: float | None, **more: Any) -> Lesson:
        words = {"title": "t" * 500, "reason": "r" * 500, "changes": {"c" * 300: 1}, "outcome": "search_only"}
        return lesson(10**9 + number, mean, **(words | {"family": f"{number}" * 99} | more))

    known = [longest(number, mean) for number, mean in enumerate([1.23456, 0.123456, None, -1.23456] * 20)]
    assert LONGEST / 2 < len(told(known)) < LONGEST


def test_iteration_10000_is_told_as_briefly_as_iteration_50() -> None:
    def length(count: int) -> int:
        numbers = range(count, 0, -1)
        return len(told([lesson(n, (n % 7 - 3) / 2, family=f"family {n % 40}") for n in numbers]))

    assert abs(length(10_000) - length(50)) < 200, "longer numbers, no more lines"
