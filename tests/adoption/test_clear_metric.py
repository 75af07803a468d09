"""Whether a run would show one metric that can decide, by the program's text: then nobody is asked for it."""

from __future__ import annotations

import pytest

from autolab.adoption.detection import is_clear_once_it_runs
from autolab.adoption.training_program import Program


@pytest.mark.parametrize(
    ("text", "is_clear"),
    [
        ('print(f"step {i}: train loss {a:.4f}, val loss {b:.4f}")\nprint(f"iter {i}: loss {c:.4f}")', True),
        ('print(f"train loss {a:.4f}")', True),
        ('print(f"val loss {a:.4f}, accuracy {b:.2f}")', False),
        ('print("done")', False),
    ],
)
def test_the_held_out_loss_is_clear_beside_those_of_the_training(text: str, is_clear: bool) -> None:
    program = Program("python train.py", "train.py", text, "", {})
    assert is_clear_once_it_runs(program) is is_clear
