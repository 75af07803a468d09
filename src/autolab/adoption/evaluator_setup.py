"""`autolab init --evaluator`: an adopted repository gets a sealed evaluator in three steps.

1. predict.py, eval.py and make_eval_data.py are written, against the model that the training saves.
2. The user fills in what only they know. The same command then trains once, shortly, predicts and scores, and says all
   that does not fit.
3. If it fits, `predict:` and `evaluate:` are added to the configuration. From then on the evaluator's number counts.

Each step is the same command. Nothing is committed, and no file of the user's is changed but the configuration, to
which lines are added. If it is killed, the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from autolab.adoption.evaluator_check import Fit, check_fit, data_problems, model_problems, training_problems
from autolab.adoption.evaluator_files import EVAL, HOLDOUT, EvaluatorPaths, open_places, skeletons
from autolab.adoption.evaluator_request import EvaluatorRequest
from autolab.adoption.evaluator_trial import EvaluatorTrial, ShortTraining
from autolab.adoption.model_search import UNKNOWN, TrainedModel, search_model
from autolab.adoption.program_sources import read_sources
from autolab.adoption.repository import Repository
from autolab.errors import LabError, RecordError, UsageError
from autolab.files import write_whole
from autolab.lab.git import find_root
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config, Evaluate, Predict
from autolab.lab.trial_python import command_words
from autolab.trials import containment

COMMAND = "autolab init --evaluator"
PREDICTION_S = 600
"""The time limit of a prediction, in the configuration."""
LISTED = 6
"""Classes that a message names at most."""


def add_evaluator(folder: Path, request: EvaluatorRequest, limit_s: float, tell: Callable[[str], None]) -> str:
    """The next step towards a sealed evaluator of the lab at `folder`. Returns the command that comes next.

    `limit_s` limits the training, in seconds. LabError: it is no lab, or something does not fit yet; what was told, a
    line each.
    """
    if limit_s <= 0:
        raise UsageError("--probe-seconds: the training has to run once before the evaluator counts; such as 60")
    root = find_root(folder.resolve())
    if root is not None and not (root / Config.FILE).exists():
        raise LabError(f"{root}: no lab yet; first autolab init --from-existing, then {COMMAND}")
    lab = Lab.find(folder)
    with lab.hold(COMMAND):
        return _next_step(lab, request, limit_s, tell)


def _next_step(lab: Lab, request: EvaluatorRequest, limit_s: float, tell: Callable[[str], None]) -> str:
    config, paths = lab.config(), EvaluatorPaths.of(lab.root)
    evaluate = config.evaluate
    if evaluate is not None:
        tell(f"the lab has an evaluator: {evaluate.script} gives {config.metric.primary}")
        if (evaluate.script, evaluate.eval, evaluate.holdout) != (
            paths.script,
            paths.split(EVAL),
            paths.split(HOLDOUT),
        ):
            return _next(lab, evaluate.script)
    repository = _repository(lab)
    script = _script(repository, config)
    committed = frozenset(repository.git.files(repository.head))
    words = command_words(config.train.command)
    model = search_model(read_sources(repository, script, words), committed, words, request.model)
    missing = paths.missing()
    # What is in force and missing is a matter of git, not of a new skeleton.
    if missing and evaluate is None:
        return _write(paths, missing, config, (model, request.checkpoint), tell)
    for path in missing:
        if path != paths.maker:
            raise LabError(f"{path}: in force, and missing in the checkout; git checkout HEAD -- {path}")
    if request.model is not None or request.checkpoint is not None:
        raise UsageError(
            f"init: {paths.predict} is there: change its lines, or delete it and run {COMMAND} with --model and"
            " --checkpoint again"
        )
    state, campaign = lab.load()
    if evaluate is None and state.iteration_id is not None:
        raise LabError(
            f"{state.iteration_id}: under way, and designed for what the training reports: `autolab loop"
            f" --max-iterations 1` ends it; then {COMMAND} again"
        )
    trial = EvaluatorTrial(lab.git, lab.root, repository.head, lab.store)
    name = script or config.train.command
    settled, line = containment.settle(config, lab.store)
    if line:
        tell(line)
    evaluated, fit = _fit(trial, settled, paths, (model, name), limit_s, tell)
    evaluated = evaluated.model_copy(update={"containment": config.containment})
    assert evaluated.predict is not None and evaluated.evaluate is not None
    if evaluate is None:
        text = text_with_evaluator(lab.control / "config.yaml", evaluated, tell)
        _tell_fit(fit, evaluated, tell)
        write_whole(lab.control / "config.yaml", text)
        tell(f"added to {Config.FILE}: predict and evaluate, in a new protocol: nothing measured before counts in it")
    else:
        _tell_fit(fit, evaluated, tell)
    if paths.maker in committed:
        tell(
            f"note: {paths.maker} is committed, so that candidates can read where the labels come from; git rm --cached"
        )
    if campaign.champions and not lab.git.is_ancestor(campaign.champions[-1].commit, repository.head):
        tell("note: your commit comes before the champion: git merge autolab/champion first, if you want what was kept")
    trial.discard()
    return _next(lab, paths.predict, paths.script)


def _repository(lab: Lab) -> Repository:
    head = lab.git.head()
    if head is None:
        raise LabError(f"{lab.root}: no commit is checked out; git switch to the lab's branch")
    return Repository(lab.root, lab.git, head, ())


def _script(repository: Repository, config: Config) -> str | None:
    """The first word of the training command that is a committed file, or the file that `-m` runs."""
    words = command_words(config.train.command)
    if "-m" in words[:-1]:
        inner = words[words.index("-m") + 1].replace(".", "/")
        for path in (f"{inner}.py", f"src/{inner}.py", f"{inner}/__main__.py", f"src/{inner}/__main__.py"):
            if repository.holds(path):
                return path
    for word in words:
        is_relative = not word.startswith(("-", "/", "..", "{"))
        if is_relative and (repository.root / word).is_file() and repository.holds(str(PurePosixPath(word))):
            return str(PurePosixPath(word))
    return None


# Step 1


def _write(
    paths: EvaluatorPaths,
    missing: list[str],
    config: Config,
    asked: tuple[TrainedModel, str | None],
    tell: Callable[[str], None],
) -> str:
    """Write the files that are missing; what is to be done next."""
    model, checkpoint = asked
    for line in _model_lines(model):
        tell(line)
    texts = skeletons(paths, config.metric.primary, model, checkpoint)
    for path in missing:
        write_whole(paths.root / path, texts[path])
    tell(f"written, and yours to change: {', '.join(missing)}")
    places = list(open_places(paths))
    for place in places:
        tell(f"  {place}")
    steps = ["fill in what stands above"] if places else []
    if not (paths.root / paths.split(EVAL)).is_dir():
        steps.append(f"python {paths.maker}")
    return ", ".join([*steps, f"{COMMAND} again"])


def _model_lines(model: TrainedModel) -> Iterator[str]:
    if model.saved is not None:
        saved = model.saved
        where = f" to {saved.path}" if saved.path else ""
        yield f"model: {saved.place} saves it{where} ({saved.function})"
    else:
        yield "model: no call was found that saves it; say where with --checkpoint, or in predict.py"
    if model.cls is None:
        if model.classes:
            names = ", ".join(str(cls) for cls in model.classes[:LISTED])
            yield f"  which class it is was not found: --model MODULE:CLASS, such as one of {names}"
        return
    how = f"built as {model.call}" if model.call else "saved whole"
    yield f"  class {model.cls.name} of {model.cls.path}, {how}"
    if UNKNOWN in model.call:
        yield "  its arguments were not found: fill them in; what the training saves is the best source for them"
    yield from _importing(model)


def _importing(model: TrainedModel) -> Iterator[str]:
    """Classes that cannot be imported without a training."""
    for path in dict.fromkeys(cls.path for cls in model.imports if cls.trains):
        yield (
            f"{path} trains when it is imported, and predict.py has to import its model: put its training under"
            ' `if __name__ == "__main__":`, or the class into a file of its own, and commit'
        )


# Step 2


def _fit(
    trial: EvaluatorTrial,
    config: Config,
    paths: EvaluatorPaths,
    program: tuple[TrainedModel, str],
    limit_s: float,
    tell: Callable[[str], None],
) -> tuple[Config, Fit]:
    """The configuration with the evaluator, and what was seen. LabError: something does not fit."""
    model, script = program
    problems = [*open_places(paths), *_importing(model), *data_problems(paths)]
    tell(f"training once for at most {limit_s:g} s, as a trial would (Ctrl-C ends the command)")
    training = trial.train(config, limit_s)
    tell(f"  {_end(training)}")
    problems += training_problems(trial, training, script, limit_s)
    place: str | None = None
    unsaved: list[str] = []
    if not training.failed and (training.new or training.in_model):
        place, unsaved = model_problems(paths, training, model.saved, script)
    evaluated = _evaluated(config, paths, place)
    fit = Fit()
    # A model of the right name was found elsewhere: what does not fit behind it is said at once, too.
    if not problems and (place is not None or not unsaved):
        fit = check_fit(trial, evaluated, paths)
    problems += unsaved + fit.problems
    if problems:
        for problem in problems:
            tell(f"  does not fit: {problem}")
        number = "one thing does" if len(problems) == 1 else f"{len(problems)} things do"
        raise LabError(f"evaluator: {number} not fit yet, see above; then {COMMAND} again")
    return evaluated, fit


def _end(training: ShortTraining) -> str:
    if training.is_stored:
        return "not again: this commit's short training is still there"
    what = "ended" if training.outcome == "completed" else training.message.removeprefix("train ")
    saved = f"; it left {', '.join(training.new[:LISTED])}" if training.new else ""
    return f"{what} after {training.seconds:.0f} s{saved}"


def _evaluated(config: Config, paths: EvaluatorPaths, model: str | None) -> Config:
    """The configuration with the evaluator in force: as it is, if it has one."""
    if config.evaluate is not None:
        return config
    predict = Predict(command=f"{{python}} {paths.predict}", time_limit_s=PREDICTION_S, model=model)
    evaluate = Evaluate(script=paths.script, eval=paths.split(EVAL), holdout=paths.split(HOLDOUT))
    return config.model_copy(update={"predict": predict, "evaluate": evaluate})


# Step 3


def text_with_evaluator(file: Path, evaluated: Config, tell: Callable[[str], None]) -> str:
    """The text of the configuration with the evaluator's lines at its end, and nothing else changed.

    LabError: the file has a form to which lines cannot be added; they were told.
    """
    predict, evaluate = evaluated.predict, evaluated.evaluate
    assert predict is not None and evaluate is not None
    model = f", model: {json.dumps(predict.model)}" if predict.model is not None else ""
    lines = [
        f"# Added by `{COMMAND}`: {evaluate.script} measures, on rows that no training sees.",
        f"predict: {{command: {json.dumps(predict.command)}, time_limit_s: {PREDICTION_S}{model}}}",
        f"evaluate: {{script: {json.dumps(evaluate.script)}, eval: {json.dumps(evaluate.eval)},"
        f" holdout: {json.dumps(evaluate.holdout)}}}",
    ]
    text = file.read_text(encoding="utf-8")
    separator = "" if text.endswith("\n") else "\n"
    changed = f"{text}{separator}" + "\n".join(lines) + "\n"
    try:
        is_same = Config.from_text(changed, Config.FILE).value() == evaluated.value()
    except RecordError as error:
        # A split in the training data, for instance, is refused as it would be by every command.
        is_same, reason = False, f": {error}"
    else:
        reason = ""
    if not is_same:
        for line in lines:
            tell(f"  {line}")
        raise LabError(f"{Config.FILE}: lines cannot be added at its end{reason}; put in those above by hand")
    return changed


def _tell_fit(fit: Fit, config: Config, tell: Callable[[str], None]) -> None:
    assert config.predict is not None and config.evaluate is not None
    metric = config.metric.primary
    tell(f"  {config.predict.command.split()[-1]} wrote {fit.forms[EVAL]} and {fit.forms[HOLDOUT]} for the holdout")
    for note in fit.notes:
        tell(f"note: {note}")
    first, second = fit.scores[EVAL][metric], fit.scores[HOLDOUT][metric]
    tell(
        f"metric of record: {metric}, by {config.evaluate.script}: {first:.5g} on the evaluation, {second:.5g} on the"
        " holdout, of a short training"
    )
    evaluate = config.evaluate
    tell(
        f"trainings see none of {evaluate.script}, {evaluate.eval} and {evaluate.holdout}; predictions the inputs alone"
    )


def _next(lab: Lab, *files: str) -> str:
    """The command that comes next: first of all, the files have to be in a commit."""
    head = lab.git.head() or ""
    changed = []
    for path in files:
        if lab.git.read(head, path) != (lab.root / path).read_bytes():
            changed.append(path)
    if not changed:
        return "autolab calibrate"
    return f"git add {' '.join(files)} && git commit -m 'a sealed evaluator' && autolab calibrate"
