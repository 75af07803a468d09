"""Settings of an arm as flags of the training's command."""

from __future__ import annotations

import pytest

from autolab.trials.setting_flags import takes_flags, with_flags


@pytest.mark.parametrize(
    ("command", "settings", "changed"),
    [
        ("train.py", {"lr": 0.003}, "train.py --lr=0.003"),
        ("train.py --lr=0.1 --epochs 3", {"lr": 0.003}, "train.py --lr=0.003 --epochs 3"),
        ("train.py --lr 0.1 --epochs 3", {"lr": 0.003, "epochs": 5}, "train.py --lr 0.003 --epochs 5"),
        ("train.py --weight-decay=0", {"weight_decay": 0.1}, "train.py --weight-decay=0.1"),
        ("train.py model=mlp trainer.max_epochs=1", {"model": "cnn"}, "train.py model=cnn trainer.max_epochs=1"),
        ("train.py model=mlp", {"optim.lr": 0.1}, "train.py model=mlp optim.lr=0.1"),
        ("train.py +seed=3", {"seed": 4}, "train.py +seed=4"),
        ("train.py lr", {"lr": 0.1}, "train.py lr --lr=0.1"),
        ("train.py --compile=True", {"compile": False, "name": "a b"}, "train.py --compile=False --name=a b"),
        ("train.py", {}, "train.py"),
        ("env PYTHONPATH=. python train.py", {"lr": 0.1}, "env PYTHONPATH=. python train.py --lr=0.1"),
        ("env lr=1 python train.py a=1", {"lr": 0.1}, "env lr=1 python train.py a=1 lr=0.1"),
    ],
)
def test_a_setting_takes_the_place_of_its_flag_or_comes_last(
    command: str, settings: dict[str, object], changed: str
) -> None:
    words = with_flags(command.split(), settings)  # type: ignore[arg-type]
    assert " ".join(words) == changed


@pytest.mark.parametrize(
    ("command", "reaches"),
    [
        ("python train.py", True),
        ("env A=1 python -c 'print(1)'", True),
        ("sh train.sh", True),
        ("sh -c 'make train && ./train'", False),
        ("env OMP_NUM_THREADS=1 /bin/bash -ec 'make && ./train'", False),
        ("sh -c 'make && ./train \"$@\"' train", True),
    ],
)
def test_a_line_for_a_shell_gets_no_flag(command: str, reaches: bool) -> None:
    assert takes_flags(command) is reaches
