"""The seed in a command and in a constant of the code: what gets it, what does not, and what fails."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from autolab.errors import RecordError
from autolab.lab.schemas.config import Config
from autolab.loop.launch import _shell_line
from autolab.trials.job import TrialCommands, argv_of
from autolab.trials.seed_constants import SeedConstant

LINES = [
    ("SEED = {seed}", "SEED = 42", "SEED = 7"),
    ("SEED = {seed}", "    SEED = 0x2A  # why", "    SEED = 7  # why"),
    ("SEED = {seed}", "SEED = 1_000; x = 2", "SEED = 7; x = 2"),
    ("SEED = {seed}", "é(SEED = 42\r", "é(SEED = 7\r"),
    ("SEED = {seed}", "DATA_SEED = 42", None),
    ("SEED = {seed}", "my.SEED = 42", None),
    ("SEED = {seed}", "# SEED = 42", None),
    ("SEED = {seed}", "x = 1  # SEED = 42", None),
    ("SEED = {seed}", "  // SEED = 42", None),
    ("SEED = {seed}", "SEED = 4.2", None),
    ("SEED = {seed}", "SEED = 42nd", None),
    ("SEED = {seed}", "SEED = other", None),
    ("random.seed({seed}", "np.random.seed(1)", None),
    ("np.random.seed({seed}", "import a; np.random.seed(1)  # x", "import a; np.random.seed(7)  # x"),
    ("manual_seed({seed} + rank", "manual_seed(1337 + rank)", "manual_seed(7 + rank)"),
    ("manual_seed({seed} + rank", "manual_seed(1337 + 1)", None),
    ("#define SEED {seed}", "#define SEED 42UL", "#define SEED 7"),
    ("srand({seed}", "  srand(1);", "  srand(7);"),
    ('"seed": {seed}', '{"seed": 3, "x": 1}', '{"seed": 7, "x": 1}'),
    ("--a/b[.*]^$\\seed={seed}", "run --a/b[.*]^$\\seed=1 &", "run --a/b[.*]^$\\seed=7 &"),
    ("--a.b={seed}", "run --axb=1", None),
]


@pytest.mark.process
@pytest.mark.parametrize(("text", "line", "written"), LINES)
def test_sed_writes_the_seed_where_it_is_said_to_stand(
    text: str, line: str, written: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "code"
    path.write_bytes(f"first\n{line}\nlast\n".encode())
    constant = SeedConstant("code", text)
    code = path.read_bytes().decode()
    assert constant.matching_lines(code) == ([] if written is None else [2])
    _, find, write, _ = constant.shell_words(7)
    assert sed(path, "-n", find) == ("" if written is None else "2\n")
    assert sed(path, write) == f"first\n{line if written is None else written}\nlast\n"


def sed(path: Path, *words: str) -> str:
    ran = subprocess.run(["sed", *words, str(path)], env={"LC_ALL": "C"}, capture_output=True, check=True)
    return ran.stdout.decode()


def test_the_seed_is_a_word_or_a_part_of_one_and_the_interpreter_is_no_text() -> None:
    command = "env SEED={seed} {python} train.py --seed {seed} seed={seed} 'sh -c {seed}' {data}"
    words = ["env", "SEED=7", "/opt/{seed}/python", "train.py", "--seed", "7", "seed=7", "sh -c 7", "{data}"]
    assert argv_of(command, "/opt/{seed}/python", 7) == words
    assert argv_of("predict --seed={seed}", "python") == ["predict", "--seed=0"], "a prediction has no seed"


@pytest.mark.process
def test_by_hand_the_seed_comes_from_the_variable() -> None:
    line = _shell_line("printf '%s|' {python} --seed={seed} {seed} 'a $b {seed}c'", "/my $python's")
    ran = subprocess.run(["sh", "-c", line], env={"AUTOLAB_SEED": "7"}, capture_output=True, text=True, check=True)
    assert ran.stdout == "/my $python's|--seed=7|7|a $b 7c|"


def config(**train: Any) -> Config:
    metric = {"primary": "loss", "direction": "minimize", "success_delta": 0.1}
    return Config.from_value({"metric": metric, "train": {"command": "train", **train}}, "a configuration")


def test_a_constant_is_a_part_of_the_content_key_and_none_adds_nothing() -> None:
    constants = ["train.py: SEED = {seed}", "b.py: srand({seed}"]
    with_constants = TrialCommands.of("train", config(in_copy=True, seed_constants=constants)).identity({})
    without = TrialCommands.of("train", config(in_copy=True)).identity({})
    assert without == ["train", "", "in a copy"]
    words = ["seed constant train.py: SEED = {seed}", "seed constant b.py: srand({seed}"]
    assert with_constants == [*without, *words]


@pytest.mark.parametrize(
    "entry",
    [
        "SEED = {seed}",
        "/etc/passwd: SEED = {seed}",
        "../train.py: SEED = {seed}",
        "train.py: SEED = 1",
        "train.py: {seed}",
        "train.py: SEED = {seed}\n",
        "train.py: {seed} = {seed}",
        ": SEED = {seed}",
    ],
)
def test_what_is_no_place_for_a_seed_is_refused(entry: str) -> None:
    with pytest.raises(RecordError, match=r"is not like 'train.py: SEED = \{seed\}'"):
        config(in_copy=True, seed_constants=[entry])


def test_a_constant_needs_a_copy() -> None:
    with pytest.raises(RecordError, match="set in_copy: true too"):
        config(seed_constants=["train.py: SEED = {seed}"])
