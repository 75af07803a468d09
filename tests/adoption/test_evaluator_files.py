"""The files of an evaluator as they begin: Python that can be read, with each open place found."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolab.adoption.evaluator_files import EvaluatorPaths, checkpoint_of, open_places, skeletons
from autolab.adoption.model_search import ModelClass, SavedModel, TrainedModel

NET = ModelClass("Net", "src/pkg/net.py", "pkg.net", "src", False)


def model(function: str = "torch.save", form: str = "state", call: str = "Net(4)", **more: Any) -> TrainedModel:
    is_torch = function not in ("", "joblib.dump", "pickle.dump")
    saved = SavedModel(function, "out/a.pt", form, "train.py:3", key="weights") if function else None
    cls = NET if is_torch else None
    return TrainedModel(cls, call, (NET,) if is_torch else (), saved, more.get("of_values", False), False, ())


def write(root: Path, metric: str, trained: TrainedModel, checkpoint: str | None = None) -> EvaluatorPaths:
    paths = EvaluatorPaths.of(root)
    for path, text in skeletons(paths, metric, trained, checkpoint).items():
        (root / path).write_text(text)
    return paths


MODELS = {
    "state": model(),
    "checkpoint": model(form="checkpoint"),
    "whole": model(form="whole", call=""),
    "settings": model(call="Net(setting('train.py', 'hidden'))"),
    "safetensors": model("save_file"),
    "transformers": model("save_pretrained", "pretrained"),
    "script": model("torch.jit.save", "whole", call=""),
    "joblib": model("joblib.dump", "whole"),
    "pickle": model("pickle.dump", "whole"),
}


@pytest.mark.parametrize("name", MODELS)
def test_only_the_rows_of_the_evaluation_are_left_to_fill_in(tmp_path: Path, name: str) -> None:
    paths = write(tmp_path, "val loss", MODELS[name])
    (place,) = open_places(paths)
    assert place.startswith("make_eval_data.py, line ") and "rows that the training does not read" in place
    assert checkpoint_of(paths) == "out/a.pt"
    text = paths.text(paths.predict)
    ast.parse(text)
    assert ("def setting(" in text) == (name == "settings")
    if name not in ("script", "joblib", "pickle"):
        assert 'sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))' in text
        assert "from pkg.net import Net" in text


def test_what_the_sources_do_not_say_is_to_be_filled_in(tmp_path: Path) -> None:
    paths = write(tmp_path, "bleu", model("", call=""), "runs/best")
    places = list(open_places(paths))
    assert [place.partition(",")[0] for place in places] == ["predict.py", "eval.py", "make_eval_data.py"]
    assert "a score for each class [n, classes]" in places[0] and "FILL_IN" in places[1]
    assert checkpoint_of(paths) == "runs/best"
    (tmp_path / "predict.py").write_text("def predict(:\n")
    assert next(open_places(paths)) == "predict.py, line 1: invalid syntax" and checkpoint_of(paths) is None


def test_files_of_the_users_own_stay(tmp_path: Path) -> None:
    (tmp_path / "eval.py").write_text("print('mine')\n")
    (tmp_path / "eval_data").mkdir()
    paths = write(tmp_path, "accuracy", model())
    assert paths.files == ("predict.py", "autolab_eval.py", "make_eval_data.py")
    assert paths.data == "autolab_eval_data" and '/ "autolab_eval_data"' in paths.text(paths.maker)
    assert (tmp_path / "eval.py").read_text() == "print('mine')\n"
    assert EvaluatorPaths.of(tmp_path) == paths, "found again"


def evaluator(root: Path, metric: str, **more: Any) -> Any:
    """The functions of the eval.py that is written for a metric."""
    paths = write(root, metric, model(**more))
    values: dict[str, Any] = {}
    exec(compile(paths.text(paths.script), "eval.py", "exec"), values)
    return values


def test_the_metrics_of_classes(tmp_path: Path) -> None:
    labels = np.array([0, 1, 2, 1])
    scores = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2], [0.3, 0.6, 0.1]])).astype(np.float32)
    expected = -np.log([0.7, 0.8, 0.2, 0.6]).mean()
    numbers = evaluator(tmp_path, "val loss")["score"](scores + 3, labels)
    assert numbers == {"val loss": pytest.approx(expected, rel=1e-6), "accuracy": 0.75}
    assert evaluator(tmp_path, "test acc")["score"](scores, labels)["test acc"] == 0.75
    assert evaluator(tmp_path, "error")["score"](scores, labels)["error"] == 0.25
    perplexity = evaluator(tmp_path, "ppl")["score"](scores[None], labels[None])["ppl"]
    assert perplexity == pytest.approx(np.exp(expected), rel=1e-6)


def test_labels_that_mean_the_same_are_taken_and_others_refused(tmp_path: Path) -> None:
    as_labels = evaluator(tmp_path, "accuracy")["as_labels"]
    for labels in (np.array([[2.0], [0.0]]), np.array([2, 0], np.uint8), np.array([True, False])):
        read = as_labels(labels, "labels.npy")
        assert read.dtype == np.int64 and read.tolist() == [int(labels.ravel()[0]), 0]
    for labels in (np.array([0.5, 1.0]), np.array([-1, 1])):
        with pytest.raises(SystemExit, match="labels are numbers of classes from 0 on"):
            as_labels(labels, "labels.npy")


def test_predictions_of_another_shape_are_refused_with_what_is_wanted(tmp_path: Path) -> None:
    score = evaluator(tmp_path, "accuracy")["score"]
    with pytest.raises(SystemExit, match=r"shape \(4, 1\); give scores of the classes \(4, 3\); of one logit z"):
        score(np.zeros((4, 1), np.float32), np.array([0, 1, 2, 1]))
    with pytest.raises(SystemExit, match=r"shape \(4, 2\); give scores of the classes \(4, 3\)$"):
        score(np.zeros((4, 2), np.float32), np.array([0, 1, 2, 1]))


@pytest.mark.parametrize(
    ("metric", "value"), [("val_mse", 0.625), ("rmse", 0.625**0.5), ("mae", 0.75), ("loss", 0.625)]
)
def test_the_metrics_of_values(tmp_path: Path, metric: str, value: float) -> None:
    predictions, labels = np.array([[1.5], [2.0]], np.float32), np.array([1.0, 3.0])
    score = evaluator(tmp_path, metric, of_values=True)["score"]
    assert score(predictions, labels)[metric] == pytest.approx(value)
    with pytest.raises(SystemExit, match=r"predictions have shape \(2, 1\), and the labels \(3, 1\)"):
        score(predictions, np.zeros(3))


def test_a_setting_is_read_where_the_training_reads_it(tmp_path: Path) -> None:
    paths = write(tmp_path, "loss", model(call="Net(setting('train.py', 'hidden'))"))
    tree = ast.parse(paths.text(paths.predict))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "setting"]
    values: dict[str, Any] = {"ast": ast, "Path": Path, "Any": Any, "__file__": str(tmp_path / "predict.py")}
    exec(compile(ast.Module(functions, []), "predict.py", "exec"), values)
    setting, script = values["setting"], tmp_path / "train.py"
    script.write_text("WIDTH = 3\nparser.add_argument('--n-hidden', type=int, default=8)\nargs = parser.parse_args()\n")
    assert (setting("train.py", "WIDTH"), setting("train.py", "n_hidden"), setting("train.py", "n_hidden", 9)) == (
        3,
        8,
        9,
    )
    script.write_text(script.read_text() + "args.n_hidden = 12\n")
    assert setting("train.py", "n_hidden", 9) == 12
