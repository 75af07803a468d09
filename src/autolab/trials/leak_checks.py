"""What trials could read of the labels, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from autolab.lab.schemas.config import Config, Evaluate
from autolab.lab.trial_python import trial_python
from autolab.sandbox.box import SYSTEM
from autolab.stats.plan import BASE, CANDIDATE
from autolab.trials import interpreter, leaks
from autolab.trials.evaluation import Evaluation
from autolab.trials.inputs import TrialInputs, hidden_from_trials


def refuse_copied_labels(config: Config, inputs: TrialInputs, store: Path) -> None:
    """LabError if trials of these inputs could read a copy of the labels. `store` holds the index of the search."""
    # At level `none` a search would be useless: there the labels are readable where they lie.
    if inputs.evaluation is None or config.evaluate is None or inputs.containment == "none":
        return
    places = _shared_places(config, inputs.interpreter.path, inputs.interpreter.reads)
    for bound in inputs.bound:
        places.append(leaks.SearchedPlace(str(bound.path), "the training data", f"take it out of {bound.entry}"))
    for name, export in inputs.code.items():
        way_out = f"take it out of commit {export.commit[:12]}"
        places.append(leaks.SearchedPlace(str(export.folder), f"the code of the {name}", way_out))
    labels = _labels(config.evaluate, inputs.evaluation)
    leaks.refuse_copies(labels, places, inputs.interpreter.covers, store)


def copied_labels(config: Config, inputs: TrialInputs) -> list[leaks.Copy]:
    """Copies of the labels that the candidate's commit holds and the base's does not, by their paths in it."""
    if inputs.evaluation is None or config.evaluate is None:
        return []
    labels = _labels(config.evaluate, inputs.evaluation)
    # A copy in the base is the user's to take out: `refuse_copied_labels` reports it.
    in_base = _copies_in(inputs.code[BASE].folder, labels)
    in_candidate = _copies_in(inputs.code[CANDIDATE].folder, labels)
    return [copy for copy in in_candidate if copy not in in_base]


def _copies_in(export: Path, labels: dict[str, Path]) -> list[leaks.Copy]:
    """The copies of labels in a code export, by their paths in it, sorted."""
    # The search reports real paths, whatever links lead to the store.
    top = os.path.realpath(export)
    copies = leaks.copies(labels, [str(export)], ())
    return [leaks.Copy(os.path.relpath(copy.path, top), copy.equals) for copy in copies]


def look_for_leaks(root: Path, store: Path, config: Config, *, note: bool) -> None:
    """As `refuse_copied_labels`, before anything is exported: the labels as they lie in the checkout `root`.

    With `note` the index of the search is written to the store, so that the next one is quick."""
    python, evaluate = trial_python(root, config), config.evaluate
    refuse_reads(root, store, config)
    # An interpreter that does not run is reported in a lab without an evaluator too.
    places = interpreter.places(Path(python), root)
    if evaluate is None or config.containment == "none":
        return
    labels = {}
    for split in (evaluate.eval, evaluate.holdout):
        for name in _LABELLED[evaluate.altered_suffix]:
            # Labels that are not in the checkout are exported later, and searched for then.
            if split is not None and (root / split / name).is_file():
                labels[f"{split}/{name}"] = root / split / name
    shared = _shared_places(config, python, places.reads)
    leaks.refuse_copies(labels, shared, places.covers, store, keep=note)


def refuse_reads(root: Path, store: Path, config: Config) -> None:
    """LabError for a path in `reads` behind which labels, evaluator or record lie; nothing at level `none`."""
    if config.containment == "none":
        return
    reads = {"train.reads": config.train.reads}
    if config.predict is not None:
        reads["predict.reads"] = config.predict.reads
    outside = [str(entry.source(root)) for entry in config.data_entries if entry.lies_outside]
    reads["data"] = tuple(outside)
    leaks.refuse_reads(root, store, reads, hidden_from_trials(config) if config.evaluate else [])


_LABELLED = {False: ("labels.npy",), True: ("labels.npy", "inputs.npy")}
"""Files of a split that no trial may find, by `altered_suffix`: a sequence's inputs are its labels, shifted by one."""


def _labels(evaluate: Evaluate, evaluation: Evaluation) -> dict[str, Path]:
    """The files that no trial may find a copy of: name in the lab -> path."""
    splits = {evaluate.eval: evaluation.split}
    if evaluation.holdout is not None and evaluate.holdout is not None:
        splits[evaluate.holdout] = evaluation.holdout
    labels = {}
    for folder, split in splits.items():
        for name in _LABELLED[evaluate.altered_suffix]:
            labels[f"{folder}/{name}"] = split.labels.with_name(name)
    return labels


def _shared_places(config: Config, python: str, interpreter_reads: Sequence[str]) -> list[leaks.SearchedPlace]:
    """What the trials read of this machine."""
    places = []
    for key, command in (("train", config.train), ("predict", config.predict)):
        if command is not None:
            for path in command.reads:
                way_out = f"take {path} off {key}.reads in {Config.FILE}"
                places.append(leaks.SearchedPlace(path, f"{key}.reads", way_out))
    for path in interpreter_reads:
        way_out = f"take it away, or name an environment without it as python in {Config.FILE}"
        places.append(leaks.SearchedPlace(path, f"the environment of {python}", way_out))
    # After the environment, which may lie in one of them: the first place that holds a copy is the one named.
    for path in SYSTEM:
        places.append(leaks.SearchedPlace(path, f"{path} of the system", "take it away"))
    return places
