"""A refinement tries another dose: its documents are headed by what it tries, not by the hypothesis's first dose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autolab.lab.schemas.experiment import Hypothesis
from autolab.loop.iteration import Iteration


def titled(description: str, changes: dict[str, Any], refinement: int) -> str:
    claim = Hypothesis.model_construct(title="A wider model (width 16 -> 32)", changes={"width up": 32})
    design = SimpleNamespace(description=description, changes=changes)
    campaign = SimpleNamespace(refinement=refinement)
    iteration: Any = SimpleNamespace(hypothesis=lambda: claim, design=lambda: design, campaign=campaign)
    return Iteration.tested_hypothesis(iteration).title


@pytest.mark.parametrize(
    ("description", "changes", "refinement", "title"),
    [
        ("A wider model (width 16 -> 64), against the base. Nothing else differs.", {"width up": 64}, 1, "64)"),
        ("Raise lr from 0.1 to 0.3. The rest stays.", {"lr": 0.3}, 2, "Raise lr from 0.1 to 0.3"),
        ("A wider model (width 16 -> 64), against the base.", {"width up": 64}, 0, "32)"),
        ("The same once more, against the base.", {"width up": 32}, 1, "32)"),
        ("", {"width up": 64}, 1, "32)"),
    ],
)
def test_a_refinement_stands_under_the_title_of_what_it_tries(
    description: str, changes: dict[str, Any], refinement: int, title: str
) -> None:
    assert titled(description, changes, refinement).endswith(title)
