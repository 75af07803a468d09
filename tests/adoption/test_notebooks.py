"""A notebook as a training program: the command that makes a script of it and runs that, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adoption_kit import adopted, commit, refused, repository

from autolab.adoption.notebooks import code_of
from autolab.lab.schemas.config import Config

CELLS = [
    {"cell_type": "markdown", "source": ["# val_loss: 3\n"]},
    {"cell_type": "code", "source": ["import numpy as np\n", "LR = 0.1"]},
    {"cell_type": "code", "source": "print(f'val_loss: {LR:.4f}')"},
]
NOTEBOOK = json.dumps({"cells": CELLS, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}, indent=1)


def test_the_code_of_a_notebook_is_that_of_its_code_cells() -> None:
    assert code_of(NOTEBOOK) == "import numpy as np\nLR = 0.1\nprint(f'val_loss: {LR:.4f}')"
    for text in ("", "[]", "{", '{"cells": 3}', '{"cells": [{}]}', '{"cells": [3]}'):
        assert code_of(text) == ""


@pytest.mark.process
def test_the_only_notebook_of_a_repository_is_run_as_a_script_in_its_folder(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"a b/train.ipynb": NOTEBOOK})
    said = adopted(kit)
    command = Config.load(kit.root / Config.FILE).train.command
    assert command == (
        """sh -c 'cd '"'"'a b'"'"' && python3 -m nbconvert --to python --log-level ERROR --output autolab_notebook"""
        """ train.ipynb && exec python3 -m IPython --colors NoColor autolab_notebook.py'"""
    )
    # Its names are those that its code prints; it has no seed of its own.
    assert "val_loss  (a b/train.ipynb prints it)" in said and "train.seed_libraries  true" in said


@pytest.mark.process
def test_a_notebook_is_named_alone_and_must_be_the_one_that_is_meant(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"one.ipynb": NOTEBOOK})
    said = refused(kit, "--train-command", "jupyter nbconvert --execute --to notebook --stdout one.ipynb")
    assert "name the notebook alone, so that its numbers are read: one.ipynb" in said
    assert "three.ipynb: not in the last commit" in refused(kit, "--train-command", "three.ipynb")
    commit(kit, {"two.ipynb": NOTEBOOK})
    assert "the repository has no train.py and 2 notebooks; name one: one.ipynb, two.ipynb" in refused(kit)
