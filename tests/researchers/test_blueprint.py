"""A model as data: what fits, what is refused in one line, and what the assembler makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autolab.lab.schemas.method import Method
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.researchers.assembler import blueprint

DIGITS = Path(blueprint.__file__).parents[2] / "templates" / "digits"
CNN = {
    "name": "small_cnn",
    "layers": [{"type": "conv", "channels": 8}, {"type": "activation", "kind": "gelu"}, {"type": "flatten"}],
}


def read(path: str) -> str | None:
    place = DIGITS / path
    return place.read_text() if place.is_file() else 'DEFAULT = "mlp"\n' if path == "models/__init__.py" else None


def none(path: str) -> None:
    """A lab without any file."""


def written(model: dict[str, Any]) -> tuple[ImplementationOutput, Method]:
    made = blueprint.implementation(read, model, "h1-a-small-cnn")
    assert made is not None and made.via == "assembler"
    texts = {file.path: file.content for file in made.files}
    return made, Method.from_text(texts["method.json"], "method.json")


def test_what_a_network_leaves_out_is_the_labs() -> None:
    made, method = written({"model_config": CNN})
    assert (method.model.input, method.model.classes) == ((1, 8, 8), 10)
    assert [file.path for file in made.files] == ["models/small_cnn.py", "method.json"]
    assert [edit.replace for edit in made.edits] == ['DEFAULT = "small_cnn"']
    unnamed = {"layers": CNN["layers"]}
    assert written({"model_config": unnamed})[1].model.name == "model_h1_a_small_cnn"


def test_of_a_recipe_only_what_changes_has_to_be_said() -> None:
    made, method = written({"recipe": {"label_smoothing": 0.1}})
    assert [file.path for file in made.files] == ["recipe.py", "method.json"] and not made.edits
    assert (method.recipe.label_smoothing, method.recipe.lr) == (0.1, 0.01)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"model_config": CNN | {"name": "mlp"}}, "models/mlp.py is there already; choose another name"),
        ({"model_config": CNN | {"input": [3, 32, 32]}}, "input: [3, 32, 32], but the lab's is [1, 8, 8]"),
        ({"model_config": CNN | {"classes": 2}}, "classes: 2, but the lab's is 10"),
        ({"model_config": CNN | {"magic": 1}}, "model: model_config: magic: unknown key"),
        ({"model_config": CNN | {"name": "Small CNN"}}, "model: model_config: name: "),
        ({"model_config": {"name": "x"}}, "model: model_config: layers: missing"),
        ({"model_config": CNN | {"layers": [{"type": "attention"}]}}, "type: 'attention' is none of conv, "),
        ({"model_config": CNN | {"layers": [{"type": "conv", "channels": 8}]}}, "end with flatten or global_pool"),
        ({"model_config": CNN | {"layers": [{"type": "linear", "units": 8}]}}, "put flatten or global_pool before it"),
        ({"model_config": []}, "model: model_config: is not a mapping"),
        ({"model_config": CNN, "recipe": 3}, "model: recipe: is not a mapping"),
        ({"recipe": {"lr": -1}}, "model: recipe: lr: "),
        ({"recipe": {"shift": 20}}, "20 pixels would move a picture of 8 out of sight"),
    ],
)
def test_what_cannot_be_built_is_one_line(model: dict[str, Any], said: str) -> None:
    line = blueprint.unfit(read, model, "h1")
    assert said in line and "\n" not in line and len(line) < 300


@pytest.mark.parametrize("model", [None, {}, {"LR": 0.1}])
def test_a_model_that_is_no_network_is_nobodys_to_judge(model: dict[str, Any] | None) -> None:
    assert blueprint.unfit(read, model, "h1") == "" and blueprint.implementation(read, model, "h1") is None


def test_without_a_method_anything_goes_and_nothing_is_assembled() -> None:
    assert blueprint.unfit(none, {"model_config": 3}, "h1") == ""
    assert blueprint.implementation(none, {"model_config": CNN}, "h1") is None
    assert blueprint.description(none).startswith("This lab has no method.json: leave model_config")


def test_a_champions_own_network_may_be_refined_under_its_name() -> None:
    method = json.loads((DIGITS / "method.json").read_text())
    method["model"] = {**method["model"], **CNN}

    def champion(path: str) -> str | None:
        held = {
            "method.json": json.dumps(method),
            "models/small_cnn.py": "",
            "models/__init__.py": 'DEFAULT = "small_cnn"',
        }
        return held.get(path)

    wider = CNN | {"layers": [{"type": "conv", "channels": 16}, {"type": "flatten"}]}
    assert blueprint.unfit(champion, {"model_config": wider}, "h1") == ""


def test_other_files_of_a_failed_candidate_are_put_back() -> None:
    made, _ = written({"model_config": CNN})
    alone = blueprint.with_base_files(made, ["models/small_cnn.py", "settings.py", "junk.py"], read)
    assert alone.files[-1].path == "settings.py" and alone.delete == ("junk.py",)


def test_a_prompt_says_what_there_is_and_what_may_be() -> None:
    text = blueprint.description(read)
    assert '"name": "mlp"' in text and '"depthwise_separable"' in text and '"label_smoothing"' in text
