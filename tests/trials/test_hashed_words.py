"""Hashes of fixed examples: whoever renames a word that is hashed sees it here, before every lab draws other seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autolab import files
from autolab.lab.schemas.config import Config, Metric
from autolab.lab.schemas.experiment import Environment
from autolab.stats.seeds import confirmation_seeds, researcher_seed, search_seeds
from autolab.trials import lookahead
from autolab.trials.inputs import protocol_hash
from autolab.trials.interpreter import Interpreter
from autolab.trials.job import TrialCommands
from autolab.trials.stored import content_key

ENVIRONMENT = Environment(python="/usr/bin/python3", version="3.12.1", packages_sha256="p")


def test_seeds_of_a_fixed_secret() -> None:
    assert search_seeds(b"secret", "protocol", "tree", 3) == (1279866260, 30106731, 627557235)
    assert confirmation_seeds(b"secret", "tree", 3) == (13572672, 2116047983, 479199270)
    assert researcher_seed(b"secret") == 4720477597083011122


def test_the_protocol_of_fixed_hashes() -> None:
    metric = Metric(primary="loss", direction="minimize", success_delta=0.1)
    protocol = protocol_hash("e", {"train": "a", "eval": "b"}, metric, ENVIRONMENT)
    assert protocol == "b814f633c6fa7bfc0d2e4ea4a42cb669b52f6a0ca24204cd5de6dd16aef97e59"
    elsewhere = ENVIRONMENT.model_copy(update={"python": "/opt/python"})
    assert protocol_hash("e", {"train": "a", "eval": "b"}, metric, elsewhere) == protocol


def test_how_a_number_is_chosen_makes_another_protocol_without_an_evaluator_alone() -> None:
    metric = Metric(primary="loss", direction="minimize", success_delta=0.1)
    for evaluator, is_other in (("", True), ("e", False)):
        last = protocol_hash(evaluator, {"train": "a"}, metric, ENVIRONMENT, [])
        smallest = protocol_hash(evaluator, {"train": "a"}, metric, ENVIRONMENT, ["reduce min"])
        assert last == protocol_hash(evaluator, {"train": "a"}, metric, ENVIRONMENT)
        assert (last != smallest) == is_other


def test_the_content_key_of_fixed_parts() -> None:
    key = content_key(
        tree="t",
        command=["train", "predict"],
        settings={"lr": 0.1},
        seed=7,
        data={"train": "a"},
        evaluator="e",
        environment="3.12 p",
    )
    assert key == "cd7b90bf7be49850de46473f2743eca45505d35cd95aebf78fb6689da1da1eb6"


def test_the_words_in_the_parts_of_a_content_key() -> None:
    metric = {"primary": "loss", "direction": "minimize", "success_delta": 0.1}
    train = {"command": "train", "metrics": "out.txt", "in_copy": True}
    config = Config.from_value({"metric": metric, "train": train}, "a configuration")
    identity = TrialCommands.of("train", config).identity({"HOME": "/home/me"})
    assert identity == ["train", "", "metrics out.txt", "in a copy", "HOME=/home/me"]
    python = Interpreter("/usr/bin/python3", ENVIRONMENT, (), ())
    assert python.identity(False) == "3.12.1 p"
    assert python.identity(True) == "3.12.1 p imports from the export"


def test_the_altered_inputs_of_a_fixed_secret(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.arange(24, dtype=np.uint8).reshape(4, 6))
    altered = lookahead.alter(tmp_path / "inputs.npy", b"secret", tmp_path / "exports")
    assert altered.cuts == (4, 1, 5, 5)
    assert altered.inputs.parent.name == "suffix-90bbb392b36a09f3"
    sha256 = files.sha256_of_file(altered.inputs)
    assert sha256 == "2ce4fc69e63fe3595e325ccda90cdd58a593d85cf4b476af71c3b5b2c8a200f2"
    assert altered.order("key") == {"predict_1": "altered", "predict_2": "inputs"}
