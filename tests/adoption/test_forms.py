"""Any training repository: each form of metric, seed, data, interpreter and layout is adopted and measured."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from forms_kit import Form, show
from metric_forms import METRIC_FORMS
from place_forms import DATA_FORMS, LAYOUT_FORMS, PYTHON_FORMS
from seed_forms import SEED_FORMS

pytestmark = pytest.mark.process
FORMS = METRIC_FORMS | SEED_FORMS | DATA_FORMS | PYTHON_FORMS | LAYOUT_FORMS


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_repository_becomes_a_lab_in_three_commands_at_most(form: Form, tmp_path: Path) -> None:
    assert len(form.refusals) <= 2
    if "train.c" in form.files and not (shutil.which("cc") and shutil.which("make")):
        pytest.skip("no C compiler here")
    if "import click" in form.files.get("train.py", "") and importlib.util.find_spec("click") is None:
        pytest.skip("click is not installed here")
    show(form, tmp_path)
