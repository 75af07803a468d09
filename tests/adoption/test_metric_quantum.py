"""The step in which a program prints its metric, and a smallest difference that shows in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adoption_kit import commit, repository

from autolab.adoption.detection import Setting
from autolab.adoption.metric_quantum import DELTA, QUANTUM, step_of, with_quantum
from autolab.errors import UsageError


@pytest.mark.parametrize(
    ("values", "step"),
    [
        (["3.90", "3.91"], 0.01),
        (["3.90"], 0.01),
        (["98%"], 1.0),
        (["97%", "98%"], 1.0),
        (["97.5%", "98.1%"], 0.1),
        (["9800/10000 (98%)", "9700/10000 (97%)"], 1.0),
        (["200", "195"], 1.0),
        (["1,512.25", "1,498.10"], 0.01),
        (["3.8940", "3.1200", "2.0001"], 0.0001),
        (["12345.678901234567", "12345.678901234512"], None),
        (["0.5"], None),
        (["3.91"], None),
        (["1.0", "2.0"], None),
        (["0.97", "0.975"], None),
        (["512/600", "513/600"], None),
        (["3.00e-04", "2.99e-04"], None),
        (["0.31 after 170 batches", "0.32 after 5 batches"], 0.01),
        (["nan", "3.90"], None),
        ([], None),
    ],
    ids=str,
)
def test_the_step_is_that_of_a_fixed_form_alone(values: list[str], step: float | None) -> None:
    assert step_of(values) == step


ROUNDED = """\
import random
SEED = 1337
random.seed(SEED)
print(f"val_loss: {3 + random.gauss(0, 0.0001):.2f}")
"""


@pytest.mark.process
def test_noise_below_what_is_printed_is_said_and_planned_with_as_that_of_rounding(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": ROUNDED})
    made = kit.autolab("init", "--from-existing", "--seed", "1", "--delta", "0.03")
    assert made.code == 0 and "metric.quantum        0.01  (the step in which it is printed, such as 3.00)" in made.out
    commit(kit, {})
    ended = kit.autolab("calibrate")
    assert ended.code == 0, ended.err
    line = "all seeds gave val_loss 3: the noise is below what is printed (0.01), or the seed is not used"
    assert f"{line} (`train.py: SEED = {{seed}}` gets it); print more decimals to see which" in ended.out
    found = json.loads((kit.root / ".autolab" / "calibration.json").read_text())
    # Two numbers, each off by a uniform error of at most half a step.
    assert (found["deviation"], found["difference_deviation"]) == (0.0, pytest.approx(0.01 * (2 / 12) ** 0.5))
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("0.03", "0.005"))
    line = "metric.success_delta: 0.005 is below metric.quantum 0.01, the step in which val_loss is printed: have the"
    for command in (("loop", "--max-iterations", "1"), ("calibrate",), ("verify",)):
        ended = kit.autolab(*command)
        assert ended.code == 1 and line in ended.out + ended.err, ended.out + ended.err


def settings(delta: float) -> list[Setting]:
    return [Setting("metric.primary", "val_loss", "given"), Setting(DELTA, delta, "given")]


def test_a_given_difference_below_the_step_is_refused_with_the_ways_out() -> None:
    with pytest.raises(UsageError) as refused:
        with_quantum(settings(0.001), ["3.90"], 0.001)
    assert str(refused.value) == (
        "--delta: 0.001 is below 0.01, the step in which the metric is printed (3.90): have the program print more"
        " decimals, or give --delta 0.01 or more"
    )


def test_a_difference_that_nobody_gave_is_at_least_the_step() -> None:
    found = {setting.key: setting.value for setting in with_quantum(settings(0.01), ["97%", "98%"], None)}
    assert (found[DELTA], found[QUANTUM]) == (1.0, 1.0)


def test_of_numbers_in_full_nothing_is_said() -> None:
    assert with_quantum(settings(0.001), ["0.12345678901234567", "0.2345678901234567"], 0.001) == settings(0.001)
