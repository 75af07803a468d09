"""Whether training, predict.py, eval.py and the evaluation data fit together: all that does not, a line each."""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from autolab.adoption.evaluator_files import EVAL, HOLDOUT, EvaluatorPaths, checkpoint_of, is_about_weights
from autolab.adoption.evaluator_trial import EvaluatorTrial, ShortTraining
from autolab.adoption.model_search import SavedModel
from autolab.adoption.probe_findings import cause
from autolab.adoption.program_probe import Probed
from autolab.errors import LabError
from autolab.lab.schemas.config import Config
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.sandbox.exit_record import Exit
from autolab.sandbox.npy_header import PREDICTIONS_BYTES, NpyHeader, npy_header
from autolab.stats.finite import is_finite
from autolab.stats.metric_names import is_share
from autolab.text import decode
from autolab.trials import leak_checks, metrics
from autolab.trials.evaluation import DataSplit, Evaluation
from autolab.trials.evaluator import Problem, check_predictions
from autolab.trials.inputs import TrialInputs
from autolab.trials.prediction_form import settle_form
from autolab.verifiers import suspicion

NAMED = 4
"""Files that a line names at most."""
ROWS = 20
"""Rows from which on exchanged predictions have to change the score."""
EXCHANGES = (1, 2, 3)
"""By how many rows predictions are shifted against their labels."""
LOOKED_FOR = 8
"""Rows of the inputs that are looked for in the training data."""
FAR = 0.5
"""A share of what a training reports of itself: a score that differs by more is worth a second look."""
SEARCHED_BYTES = 2**31
"""Bytes of training data that are searched at most."""
_FRAME = re.compile(r'File "[^"]*?([\w.-]+\.py)", line (\d+)')


@dataclass
class Fit:
    """What was seen: problems, a line each; notes; the evaluator's numbers by split (`eval`, `holdout`)."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    """Type and shape of the predictions, as predict.py wrote them."""


def data_problems(paths: EvaluatorPaths) -> list[str]:
    """What is wrong with inputs.npy and labels.npy of both splits."""
    if not any((paths.root / paths.split(name)).exists() for name in (EVAL, HOLDOUT)):
        return [f"{paths.data}: no evaluation data yet: python {paths.maker}"]
    problems: list[str] = []
    for name in (EVAL, HOLDOUT):
        problems += _split_problems(paths, paths.split(name))
    if not problems:
        first, second = (DataSplit.of(paths.root / paths.split(name)) for name in (EVAL, HOLDOUT))
        if first.inputs.read_bytes() == second.inputs.read_bytes():
            problems.append(f"{paths.data}: the holdout has the inputs of the evaluation: give it rows of its own")
    return problems


def _split_problems(paths: EvaluatorPaths, split: str) -> Iterator[str]:
    headers = {}
    for name in ("inputs", "labels"):
        try:
            headers[name] = _header(paths.root / split / f"{name}.npy")
        except InvalidFile as error:
            yield f"{split}/{name}.npy: {error}: python {paths.maker} makes it"
            continue
        if headers[name].descr.strip("<>|=")[:1] not in "fiub":
            yield f"{split}/{name}.npy: {headers[name].descr} is no type of numbers: save an array of numbers"
    if len(headers) == 2 and headers["inputs"].shape[0] != headers["labels"].shape[0]:
        rows = f"labels.npy has {headers['labels'].shape[0]} rows, inputs.npy {headers['inputs'].shape[0]}"
        yield f"{split}: {rows}: a label for each input, in their order"


def _header(path: Path) -> NpyHeader:
    """Of a file of one dimension or more. InvalidFile: it is none."""
    with open_regular(path, 64 * PREDICTIONS_BYTES) as file:
        return npy_header(file, dimensions=1)


# The training


def training_problems(trial: EvaluatorTrial, training: ShortTraining, script: str, limit_s: float) -> list[str]:
    """Why a short training gives nothing to predict with."""
    if training.failed:
        probed = Probed(
            outcome=training.outcome,
            message=training.message,
            seconds=training.seconds,
            out=trial.printed("train", "out"),
            err=trial.printed("train", "err"),
        )
        return [f"{script}: the training {training.message.removeprefix('train ')}: {cause(probed)}"]
    if not training.new and not training.in_model:
        if training.message and training.outcome == "timeout":
            return [f"{script}: still running after {limit_s:g} s, and no file saved: --probe-seconds {10 * limit_s:g}"]
        return [f"{script}: the training saved no file: let it save its model, such as torch.save(…), and commit"]
    return []


def model_problems(
    paths: EvaluatorPaths, training: ShortTraining, saved: SavedModel | None, script: str
) -> tuple[str | None, list[str]]:
    """What `predict.model` has to be (None: the training leaves it in AUTOLAB_TRIAL_DIR/model), and what is wrong.

    A file of the same name in another folder is taken for the model, so that the check goes on.
    """
    path = checkpoint_of(paths)
    if path is None:
        if training.in_model:
            return None, []
        return None, [f'{paths.predict}: no line CHECKPOINT = "…" says what {script} saves: {_listed(training, saved)}']
    if any(name.rpartition("/")[2] == path.rpartition("/")[2] for name in training.in_model):
        return None, []
    if any(name == path or name.startswith(f"{path}/") for name in training.new):
        return path, []
    if not training.new:
        return None, []
    name = PurePosixPath(path).name
    same = [file for file in training.new if PurePosixPath(file).name == name]
    problem = f"{paths.predict}: CHECKPOINT is {path}, and {script} saved {_listed(training, saved)}"
    return (same[0] if same else None), [problem]


def _listed(training: ShortTraining, saved: SavedModel | None) -> str:
    """The files that may be the model, and the line that names the first of them."""
    likely = [name for name in training.new if is_about_weights(saved, name)] or list(training.new)
    more = f" and {len(likely) - NAMED} more" if len(likely) > NAMED else ""
    return f'{", ".join(likely[:NAMED])}{more}: write CHECKPOINT = "{likely[0]}"'


# Predictions and their score


def check_fit(trial: EvaluatorTrial, config: Config, paths: EvaluatorPaths) -> Fit:
    """Predict for both splits with the trained model, and score. `config` has the evaluator in force."""
    fit = Fit()
    try:
        inputs = trial.inputs(config, (paths.predict, paths.script))
        # With the lab's own index: the calibration that follows has less to read.
        leak_checks.refuse_copied_labels(config, inputs, trial.store)
    except LabError as error:
        fit.problems.append(str(error))
        return fit
    evaluation = inputs.evaluation
    assert evaluation is not None and evaluation.holdout is not None
    for name, split in ((EVAL, evaluation.split), (HOLDOUT, evaluation.holdout)):
        end, predictions = trial.predict(config, inputs, holdout=name == HOLDOUT)
        if end.outcome != "completed":
            fit.problems.append(_failure(trial, end, paths))
            return fit
        problem = _judge(fit, _Case(paths, config, evaluation, name, split, predictions))
        # The other split would say the same again.
        if problem:
            fit.problems.append(problem)
            return fit
    fit.notes += _notes(trial, config, fit, inputs)
    return fit


def _failure(trial: EvaluatorTrial, end: Exit, paths: EvaluatorPaths) -> str:
    """Why a prediction failed: the line of predict.py, and the error."""
    err = trial.printed(end.step, "err")
    probed = Probed(end.outcome, end.message, end.seconds, trial.printed(end.step, "out"), err)
    lines = [line for file, line in _FRAME.findall(decode(err)) if file == paths.predict]
    error = cause(probed) or end.message
    return f"{paths.predict}, line {lines[-1]}: {error}" if lines else f"{paths.predict}: {error}"


@dataclass(frozen=True)
class _Case:
    """One split's predictions, to be scored."""

    paths: EvaluatorPaths
    config: Config
    evaluation: Evaluation
    name: str
    split: DataSplit
    predictions: Path

    @property
    def metric(self) -> str:
        return self.config.metric.primary

    @property
    def folder(self) -> Path:
        """Where the evaluator leaves its numbers."""
        return self.predictions.parent.with_name("score")


def _judge(fit: Fit, case: _Case) -> str:
    """Check and score the predictions of a split into `fit`; what is wrong, empty if nothing is."""
    predict = case.paths.predict
    try:
        header = _header(case.predictions)
    except InvalidFile as error:
        return f"{predict}: predictions.npy in AUTOLAB_TRIAL_DIR: {error}"
    labels = _header(case.split.labels)
    fit.forms[case.name] = _form(header)
    if header.shape[0] != labels.shape[0]:
        rows = f"{header.shape[0]} rows for the {labels.shape[0]} inputs of {case.paths.split(case.name)}"
        return f"{predict} wrote {rows}: a row an input, in their order"
    settle_form(case.predictions)
    checked = check_predictions(case.predictions, labels.shape[0])
    if isinstance(checked, Problem):
        return f"{predict}: {checked.message}"
    numbers = case.evaluation.score(case.predictions, case.split.labels, case.folder)
    if isinstance(numbers, Problem):
        return _refusal(case, numbers, header, labels)
    if case.metric not in numbers:
        wrote = ", ".join(numbers)
        return (
            f"{case.paths.script} wrote {wrote}, and metric.primary is {case.metric}: let it write {case.metric}, or"
            f" change metric.primary in {Config.FILE}"
        )
    if not is_finite(numbers[case.metric]):
        return f"{case.paths.script}: {case.metric} is {numbers[case.metric]}"
    if suspicion.predictions(case.predictions).suspicions:
        return f"{predict}: {suspicion.IGNORES_INPUTS}: predict from AUTOLAB_INPUTS with the trained model"
    fit.scores[case.name] = numbers
    return _unmoved(case, numbers[case.metric])


def _form(header: NpyHeader) -> str:
    import numpy as np

    try:
        name = np.dtype(header.descr).name
    except TypeError:
        name = header.descr
    return f"{name} {header.shape}"


def _refusal(case: _Case, problem: Problem, header: NpyHeader, labels: NpyHeader) -> str:
    """What the evaluator said, with the two forms that it was given, and the usual way out."""
    message = problem.message.removeprefix("predictions.npy: ").removeprefix(f"{case.paths.script}: ")
    forms = f"{case.paths.predict} wrote {_form(header)}, labels.npy is {_form(labels)}"
    way_out = ""
    is_scores = header.shape[:-1] == labels.shape and labels.descr.strip("<>|=")[:1] in "iub"
    if is_scores and "Error" in message:
        way_out = f": if {case.paths.script} compares classes, take argmax(axis=-1) in {case.paths.predict}"
    return f"{case.paths.script}: {message}; {forms}{way_out}"


def _unmoved(case: _Case, value: float) -> str:
    """Says so if the score stays the same when rows get each other's predictions; empty if it does not.

    The usual reason is [n, 1] compared with [n], which numpy takes for a table of all pairs.
    """
    import numpy as np

    rows = np.load(case.predictions, allow_pickle=False)
    if len(rows) < ROWS:
        return ""
    # Not in the folder that predict.py writes in.
    exchanged = case.folder / "exchanged.npy"
    for shift in EXCHANGES:
        np.save(exchanged, np.roll(rows, shift, axis=0), allow_pickle=False)
        numbers = case.evaluation.score(exchanged, case.split.labels, case.folder)
        # An evaluator that refuses them looks at the rows.
        if isinstance(numbers, Problem) or not math.isclose(numbers.get(case.metric, math.nan), value, rel_tol=1e-9):
            return ""
    return (
        f"{case.paths.script}: {case.metric} is {value:.6g} also if each row gets another row's prediction: hold row"
        f" against row; predictions come as {rows.shape}, and [n, 1] against [n] compares all pairs: predictions[:, 0]"
    )


def _notes(trial: EvaluatorTrial, config: Config, fit: Fit, inputs: TrialInputs) -> Iterator[str]:
    metric, value = config.metric.primary, fit.scores[EVAL][config.metric.primary]
    own = metrics.read(trial.attempt, config.train.metrics, (metric,), None, metrics.Primary.of(config))
    if not isinstance(own, Problem):
        reported = own[metric]
        yield f"the training reports {metric} {reported:.5g} of itself; from now on that decides nothing"
        if is_share(metric) and reported > 1.5 and value <= 1:
            wanted = config.metric.success_delta
            if wanted is not None:
                yield (
                    f"it reports percent, and eval.py a share: metric.success_delta is {wanted:g}; if percent were"
                    f" meant, write {wanted / 100:g} in {Config.FILE}"
                )
        elif abs(value - reported) > FAR * abs(reported):
            yield (
                f"eval.py gives {value:.5g}, far from that: if the rows are alike, predict.py does not do to"
                " its inputs what the training does (to_input), or loads other weights"
            )
    if inputs.data is not None and inputs.evaluation is not None:
        yield from _rows_in_data(inputs.data, inputs.evaluation.split, str(config.data))


def _rows_in_data(data: Path, split: DataSplit, name: str) -> Iterator[str]:
    """Says so if rows of the evaluation lie in the training data, byte for byte."""
    import numpy as np

    inputs = np.load(split.inputs, mmap_mode="r", allow_pickle=False)
    needles = [np.ascontiguousarray(row).tobytes() for row in inputs[:LOOKED_FOR]]
    # A short row may be anywhere by chance.
    needles = [needle for needle in needles if len(needle) >= 16 and len(set(needle)) > 4]
    searched = 0
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        searched += path.stat().st_size
        if searched > SEARCHED_BYTES:
            return
        if needles and _holds(path, needles):
            shown = path.relative_to(data)
            yield (
                f"{name}/{shown} holds rows of the evaluation, and trainings read it: a candidate could learn them; cut"
                " the evaluation from rows that lie elsewhere, or take these out of it"
            )
            return


def _holds(path: Path, needles: list[bytes]) -> bool:
    """Whether a file holds all of these bytes."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(needle) >= 0 for needle in needles)
