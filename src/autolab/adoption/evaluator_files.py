"""The three files of a sealed evaluator in an adopted repository: where they lie, what they begin as, what is open.

    predict.py          runs in trials, on inputs without labels; a candidate may change it
    eval.py             scores predictions against labels, apart from trials; no candidate changes it
    make_eval_data.py   makes inputs and labels once; the user runs it

A file of the user's own that has one of these names stays as it is, and ours is called `autolab_predict.py`.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autolab.adoption.model_search import UNKNOWN, SavedModel, TrainedModel
from autolab.lab.create import TEMPLATES
from autolab.stats.metric_names import is_accuracy, is_loss, words
from autolab.text import decode

SKELETONS = TEMPLATES / "evaluator"
CHECKPOINT = "CHECKPOINT"
"""The constant of predict.py that says where the training saves its model."""
EVAL, HOLDOUT = "eval", "holdout"
"""Folders below that of the evaluation data."""
_OURS = {"predict.py": "AUTOLAB_INPUTS", "eval.py": "--predictions", "make_eval_data.py": "inputs.npy"}
"""Each file by its usual name, and a text that its contract demands of it."""
_SUFFIXES = (
    *(".pt", ".pth", ".ckpt", ".bin", ".safetensors"),
    *(".npz", ".npy", ".pkl", ".pickle", ".joblib", ".h5", ".keras", ".onnx"),
)
"""Of files that hold a model."""
_TORCH = (
    "torch.save",
    "torch.jit.save",
    "save_file",
    "safetensors.torch.save_file",
    "save_pretrained",
    "save_checkpoint",
)
"""Functions that save what predict_torch.py loads."""
_UNWRAPPED = (
    'weights = {name.removeprefix("_orig_mod.").removeprefix("module."): value for name, value in weights.items()}'
)
"""A compiled model and one of several processes put a word before the names of their weights."""


@dataclass(frozen=True)
class EvaluatorPaths:
    """The files, and the folder of the evaluation data, by their paths in the checkout `root`."""

    root: Path
    predict: str
    script: str
    maker: str
    data: str

    @classmethod
    def of(cls, root: Path) -> EvaluatorPaths:
        predict, script, maker = (_free_name(root, name, contract) for name, contract in _OURS.items())
        data = "eval_data"
        # A folder of the user's own that has this name.
        if os.path.lexists(root / data) and not any((root / data / split).is_dir() for split in (EVAL, HOLDOUT)):
            data = "autolab_eval_data"
        return cls(root, predict, script, maker, data)

    @property
    def files(self) -> tuple[str, str, str]:
        return self.predict, self.script, self.maker

    def split(self, name: str) -> str:
        return f"{self.data}/{name}"

    def missing(self) -> list[str]:
        return [path for path in self.files if not (self.root / path).is_file()]

    def text(self, path: str) -> str:
        return decode((self.root / path).read_bytes())


def _free_name(root: Path, name: str, contract: str) -> str:
    path = root / name
    if not os.path.lexists(path):
        return name
    is_ours = path.is_file() and contract in decode(path.read_bytes())
    return name if is_ours else f"autolab_{name}"


def skeletons(paths: EvaluatorPaths, metric: str, model: TrainedModel, checkpoint: str | None) -> dict[str, str]:
    """The text of each file by its path. `checkpoint` is where the training saves its model, if the user says so."""
    saved = checkpoint or (model.saved.path if model.saved is not None else "")
    maker = (SKELETONS / "make_eval_data.py").read_text().replace("eval_data", "@data").replace("make_@data", "@maker")
    maker = maker.replace("@maker.py", paths.maker).replace("@data", paths.data)
    return {
        paths.predict: _predict_text(model, saved).replace("make_eval_data.py", paths.maker),
        paths.script: _eval_text(metric, model).replace("make_eval_data.py", paths.maker),
        paths.maker: maker,
    }


def _predict_text(model: TrainedModel, checkpoint: str) -> str:
    function = model.saved.function if model.saved is not None else ""
    is_torch = function in _TORCH or (model.cls is not None and not function)
    name = "predict_torch.py" if is_torch else "predict_arrays.py"
    lines, imports = _torch_model(model) if is_torch else _arrays(function)
    text = (SKELETONS / name).read_text()
    text = text.replace("    raise NotImplementedError(path)  # @load", f"    {lines}")
    text = text.replace("    raise NotImplementedError(model)  # @predict", f"    {_prediction(function, model)}")
    if "setting(" in lines:
        text = _with_settings(text)
    text = text.replace("# @imports\n", imports)
    if checkpoint:
        text = text.replace('CHECKPOINT = "model.pt"', f"CHECKPOINT = {json.dumps(checkpoint)}")
        text = text.replace('CHECKPOINT = "model.npz"', f"CHECKPOINT = {json.dumps(checkpoint)}")
    return text


def _with_settings(text: str) -> str:
    """The text of predict.py with the function that reads constants of the candidate's code."""
    function = (SKELETONS / "setting.py").read_text().partition("\n\n\n")[2]
    text = text.replace(
        "import os\nfrom pathlib import Path\n",
        "import ast\nimport os\nfrom pathlib import Path\nfrom typing import Any\n",
    )
    return text.replace("def load_model(", f"{function}\n\ndef load_model(")


def _torch_model(model: TrainedModel) -> tuple[str, str]:
    """The body of `load_model`, and the imports that it needs."""
    form = model.saved.form if model.saved is not None else "state"
    function = model.saved.function if model.saved is not None else ""
    if function == "torch.jit.save":
        return "return torch.jit.load(path).eval()", ""
    if form == "pretrained":
        name = model.cls.name if model.cls is not None else UNKNOWN
        return f"return {name}.from_pretrained(path).eval()", _imports(model, "")
    if form == "whole":
        comment = "  # noqa: F401: the saved model names it"
        return 'return torch.load(path, map_location="cpu", weights_only=False).eval()', _imports(model, comment)
    lines: list[str] = []
    weights, imports = 'torch.load(path, map_location="cpu", weights_only=True)', ""
    if function.endswith("save_file"):
        weights, imports = "load_file(path)", "from safetensors.torch import load_file\n\n"
    if form == "checkpoint":
        assert model.saved is not None
        lines.append('checkpoint = torch.load(path, map_location="cpu", weights_only=False)')
        weights = f"checkpoint[{json.dumps(model.saved.key)}]"
    lines.append(f"model = {model.call if model.cls is not None else f'{UNKNOWN}()'}")
    if model.is_wrapped:
        lines += [f"weights = {weights}", _UNWRAPPED]
        weights = "weights"
    lines += [f"model.load_state_dict({weights})", "return model.eval()"]
    return "\n    ".join(lines), imports + _imports(model, "")


def _imports(model: TrainedModel, comment: str) -> str:
    rows = []
    folders = dict.fromkeys(cls.folder for cls in model.imports if cls.folder)
    for folder in folders:
        rows.append(f"sys.path.insert(0, str(Path(__file__).resolve().parent / {json.dumps(folder)}))")
    if rows:
        rows.insert(0, "import sys\n")
    for cls in model.imports:
        rows.append(f"from {cls.module} import {cls.name}{comment or ('  # noqa: E402' if folders else '')}")
    return "".join(f"{row}\n" for row in rows) + ("\n" if rows else "")


def _arrays(function: str) -> tuple[str, str]:
    """The same for a model that is no module of torch."""
    if function == "joblib.dump":
        return "return joblib.load(path)", "import joblib\n\n"
    if function == "pickle.dump":
        return "return pickle.loads(path.read_bytes())", "import pickle\n\n"
    return "return np.load(path, allow_pickle=False)", ""


def _prediction(function: str, model: TrainedModel) -> str:
    """The body of `predict` for a model that is no module of torch."""
    if function not in ("joblib.dump", "pickle.dump"):
        what = "a value [n]" if model.is_regression else "a score for each class [n, classes]"
        return f'raise NotImplementedError("FILL IN: what the model gives for these rows: {what}")'
    if model.is_regression:
        return "return model.predict(rows)"
    return "return np.log(np.maximum(model.predict_proba(rows), 1e-12))"


def _eval_text(metric: str, model: TrainedModel) -> str:
    of_values = model.is_regression or not words(metric).isdisjoint({"mse", "rmse", "mae", "r2"})
    text = (SKELETONS / ("eval_values.py" if of_values else "eval_classes.py")).read_text()
    metrics = _value_metrics(metric) if of_values else _class_metrics(metric)
    before, _, rest = text.partition("    return {")
    after = rest.partition("# @metrics\n")[2]
    return f"{before}    return {{{metrics}}}\n{after}"


def _class_metrics(metric: str) -> str:
    name, named = json.dumps(metric), words(metric)
    if is_accuracy(metric):
        return f'{name}: accuracy, "loss": loss'
    if not named.isdisjoint({"perplexity", "ppl"}):
        return f'{name}: float(np.exp(loss)), "loss": loss, "accuracy": accuracy'
    if not named.isdisjoint({"error", "err"}):
        return f'{name}: 1 - accuracy, "loss": loss'
    if not named.isdisjoint({"loss", "nll"}):
        return f'{name}: loss, "accuracy": accuracy'
    return f'{name}: {UNKNOWN}, "loss": loss, "accuracy": accuracy'


def _value_metrics(metric: str) -> str:
    name, named = json.dumps(metric), words(metric)
    if "rmse" in named:
        return f'{name}: mse**0.5, "mae": mae'
    if "mae" in named:
        return f'{name}: mae, "mse": mse'
    if is_loss(metric):
        return f'{name}: mse, "mae": mae'
    return f'{name}: {UNKNOWN}, "mse": mse, "mae": mae'


def open_places(paths: EvaluatorPaths) -> Iterator[str]:
    """What is still to be filled in, and files that are no Python, a line each."""
    missing = paths.missing()
    for path in paths.files:
        # Whoever has made the data may delete its maker.
        if path in missing:
            continue
        try:
            tree = ast.parse(paths.text(path))
        except SyntaxError as error:
            yield f"{path}, line {error.lineno}: {error.msg}"
            continue
        for node in ast.walk(tree):
            text = _open_place(node)
            if text:
                yield f"{path}, line {getattr(node, 'lineno', 1)}: fill in {text}"


def _open_place(node: ast.AST) -> str:
    if isinstance(node, ast.Name) and node.id == UNKNOWN:
        return f"what stands in place of {UNKNOWN}"
    if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call) or not node.exc.args:
        return ""
    text = node.exc.args[0]
    if isinstance(text, ast.Constant) and str(text.value).startswith("FILL IN: "):
        return str(text.value).removeprefix("FILL IN: ")
    return ""


def checkpoint_of(paths: EvaluatorPaths) -> str | None:
    """Where predict.py says that the training saves its model; None if it does not say so."""
    return checkpoint_in(paths.text(paths.predict))


def checkpoint_in(text: str) -> str | None:
    """The same of the text of a predict.py."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if CHECKPOINT in names and isinstance(node.value.value, str):
            return str(PurePosixPath(node.value.value))
    return None


def is_about_weights(saved: SavedModel | None, path: str) -> bool:
    """Whether a file that a training left may be its model, by its name."""

    if saved is not None and saved.path and PurePosixPath(path).name == PurePosixPath(saved.path).name:
        return True
    return path.endswith(_SUFFIXES)
