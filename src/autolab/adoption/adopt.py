"""`autolab init --from-existing`: a repository with a training program of its own becomes a lab.

Every setting that was detected is printed and stands in `.autolab/config.yaml`, where it can be changed. Only new files
are written; nothing is committed and nothing of the user's is changed. What git is to ignore goes into
`.git/info/exclude`. Every refusal comes before the first file. If the command is killed, the same command goes on.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from autolab.adoption import answers, asks_git, earlier_run
from autolab.adoption.answers import UNKNOWN, MetricAnswer
from autolab.adoption.detection import (
    AdoptionRequest,
    Setting,
    has_clear_metric,
    is_clear_once_it_runs,
    likely_metrics,
    settings_of,
)
from autolab.adoption.earlier_run import EarlierAdoption, EarlierRun, RunConditions, conditions_of, record_of, restored
from autolab.adoption.filtered_files import FilteredFiles, filtered_files, note_of, refuse_read
from autolab.adoption.first_run import FirstRun, run_program
from autolab.adoption.lab_files import DOCUMENTS, config_text, write_files
from autolab.adoption.metric_quantum import with_quantum
from autolab.adoption.own_imports import OwnImports, examine, notes_of
from autolab.adoption.program_probe import ProbeView
from autolab.adoption.program_seed import ProgramSeed, find_seed, seeds_libraries
from autolab.adoption.program_sources import read_sources
from autolab.adoption.questions import Ask, refuse
from autolab.adoption.refusals import Refusals
from autolab.adoption.repository import Repository, open_repository
from autolab.adoption.search_space import search_space
from autolab.adoption.seed_proof import SeedCheck, SeedProof, jax_note
from autolab.adoption.shared_places import shared_places
from autolab.adoption.static_needs import later_needs
from autolab.adoption.training_program import Program, find_program
from autolab.errors import LabError, UsageError
from autolab.lab.create import register
from autolab.lab.git import common_dir
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.lab.trial_python import command_words
from autolab.sandbox.collect import remove_tree
from autolab.stats.metric_names import direction_of
from autolab.trials import metrics
from autolab.trials.bound_data import require_data

NAMED = 3
"""Files that a note names at most."""
NO_DELTA = 1e9
"""Stands for the least difference where there is no lab: each comparison has its own."""
_OF_A_LAB = ("metric.success_delta", "files.frozen", "files.global", "executor.options", "train.in_copy")
"""Settings that a comparison has otherwise, or that say nothing without a lab."""
USUAL_S = 60.0
"""Seconds for which a program is tried if the user says nothing else."""

_SETUP_COMPILES = re.compile(r"\b(ext_modules|cythonize|cffi_modules|rust_extensions)\b")
_BUILDER_COMPILES = re.compile(
    r"(mesonpy|meson-python|scikit[_-]build|maturin|cython|pybind11|nanobind|setuptools[_-]rust|cffi)(?![a-z0-9])",
    re.IGNORECASE,
)


def adopt(
    folder: Path,
    request: AdoptionRequest,
    seed: int | None,
    tell: Callable[[str], None],
    ask: Ask | None = None,
    view: ProbeView | None = None,
) -> Lab:
    """Make a lab of the repository at `folder`. LabError, GitError, UsageError: why it cannot be, and the way out.

    `ask` answers what cannot be detected, by default with a refusal; `view` shows the progress of the first run.
    """
    talk = _Talk(tell, ask or refuse(tell), view, Refusals())
    repository = open_repository(folder.resolve(), talk.refusals)
    detected = _detect(repository, request, talk)
    tell(f"settings, which you can change in {Config.FILE}:")
    for line in detected.lines():
        tell(line)
    program, text = detected.plan.program, config_text(detected.settings)
    paths = write_files(repository, program, detected.config, text)
    lab = register(repository.root, seed)
    earlier_run.forget(repository.root)
    tell(f"written, and yours to commit: {', '.join(paths)}")
    return lab


def detect(
    folder: Path,
    request: AdoptionRequest,
    tell: Callable[[str], None],
    ask: Ask | None = None,
    view: ProbeView | None = None,
) -> Detection:
    """How trainings of the repository at `folder` run, without making a lab of it.

    Errors, `ask` and `view` are those of `adopt`. The checkout may have changes: the last commit is looked at. The
    least difference is no part of it, and stays unknown to a later `adopt`.
    """
    talk = _Talk(tell, ask or refuse(tell), view, Refusals())
    repository = open_repository(folder.resolve(), talk.refusals, for_lab=False)
    detected = _detect(repository, replace(request, delta=NO_DELTA), talk)
    for line in detected.training_lines():
        tell(line)
    plan = detected.plan
    sources = read_sources(plan.repository, plan.program.script, command_words(plan.program.command))
    return Detection(config_text(detected.settings), shared_places(detected.wrote, sources.code))


@dataclass(frozen=True)
class Detection:
    """The text of a configuration, and the places that all trainings of it write to if nothing contains them."""

    text: str
    shared: tuple[str, ...]


def _detect(repository: Repository, request: AdoptionRequest, talk: _Talk) -> _Detected:
    earlier = earlier_run.recall(repository.root, talk.tell)
    plan = _plan(repository, request, earlier, talk)
    proof = None
    wrote: tuple[str, ...] = ()
    if plan.limit_s > 0:
        settings, proof, wrote = _tried(plan, earlier, talk)
    else:
        if plan.earlier_flags:
            talk.tell(f"as before: {plan.earlier_flags}")
        settings = _with_delta(plan.settings, plan.request, None, talk)
    config = Config.from_text(config_text(settings), Config.FILE)
    planned = {setting.key: setting.value for setting in plan.settings}
    if config.train.command != planned["train.command"]:
        # Such as a path of imports that the run showed to be missing.
        own_imports = _try_export(repository, config, talk.refusals)
        talk.refusals.settle(talk.tell)
        plan = replace(plan, own_imports=own_imports)
    return _Detected(plan, settings, config, proof, wrote)


@dataclass(frozen=True)
class _Talk:
    """How an adoption speaks with its user, and what it has to refuse so far."""

    tell: Callable[[str], None]
    ask: Ask
    view: ProbeView | None
    refusals: Refusals


@dataclass(frozen=True)
class _Plan:
    """What is known of the program before it runs. `earlier_flags`: those of an earlier command, as words."""

    repository: Repository
    request: AdoptionRequest
    earlier_flags: str
    program: Program
    program_seed: ProgramSeed
    settings: list[Setting]
    is_unknown: bool
    """Whether the run has to show which metrics there are; the settings have another name until then."""
    own_imports: OwnImports
    filtered: FilteredFiles

    @property
    def limit_s(self) -> float:
        """For how long the program is tried; 0 if it is not."""
        return USUAL_S if self.request.probe_seconds is None else self.request.probe_seconds


@dataclass(frozen=True)
class _Detected:
    """What is known of the program after its runs: the settings, and the configuration that they make.

    `wrote`: paths outside of a trial's own folders that it tried to write.
    """

    plan: _Plan
    settings: list[Setting]
    config: Config
    proof: SeedProof | None
    wrote: tuple[str, ...]

    def training_lines(self) -> Iterator[str]:
        """How the training runs and what it measures, a line each, for the user."""
        for setting in self.settings:
            if setting.key not in _OF_A_LAB:
                yield f"  {setting}"
        if self.proof is not None:
            if self.proof.setting is not None:
                yield f"  {self.proof.setting}"
            if self.proof.note:
                yield f"note: {self.proof.note}"

    def lines(self) -> Iterator[str]:
        """The settings and the notes, a line each, for the user."""
        plan, proof = self.plan, self.proof
        for setting in self.settings:
            yield f"  {setting}"
        if proof is not None and proof.setting is not None:
            yield f"  {proof.setting}"
        notes = [
            *_notes(plan.repository, plan.program, plan.program_seed, self.config),
            *notes_of(plan.own_imports, plan.program.name),
            note_of(plan.filtered),
            search_space(plan.repository, self.config),
            proof.note if proof is not None else "",
            jax_note(plan.program, plan.program_seed),
        ]
        for note in filter(None, notes):
            yield f"note: {note}"


def _plan(repository: Repository, request: AdoptionRequest, earlier: EarlierAdoption | None, talk: _Talk) -> _Plan:
    """Everything that can be known without a run. LabError, UsageError: what has to be fixed before one."""
    refusals, earlier_flags = talk.refusals, ""
    if earlier is not None:
        request, earlier_flags = earlier_run.filled(request, earlier)
    known = answers.without_wrong_flags(repository, request, refusals)
    program = None
    with refusals.collect():
        known = answers.with_program(repository, known, talk.ask)
        program = find_program(repository, known.train_command, known.python)
    if program is None:
        refusals.settle(talk.tell)
        raise AssertionError("a program that is not there was refused")
    known = answers.before_run(repository, program, known, talk.ask, refusals)
    if not answers.is_tried(known):
        with refusals.collect():
            known = answers.metric_without_run(program, known, talk.ask)
    is_unknown = known.metric is None and not has_clear_metric(program)
    # Of a program that is tried, the run shows which metrics there are.
    shown = replace(known, metric=UNKNOWN, direction="minimize") if is_unknown else known
    if shown.metric is not None and shown.direction is None and direction_of(shown.metric) is None:
        shown = replace(shown, direction="minimize")
    program_seed = find_seed(repository, program)
    settings = list(_with_seed(settings_of(repository, program, shown), program_seed, program))
    settings += asks_git.setting_of(program)
    config = Config.from_text(config_text(settings), Config.FILE)
    filtered = filtered_files(repository, program, config)
    refuse_read(filtered, has_data=bool(known.data), refusals=refusals)
    with refusals.collect():
        require_data(repository.git, repository.root, repository.head, config)
    own_imports = _try_export(repository, config, refusals)
    if refusals.keeps_from_running:
        lacking = _lacking(own_imports, program)
        if lacking:
            # The program may find it by itself.
            talk.tell(f"  perhaps missing: {lacking}")
        refusals.settle(talk.tell)
    return _Plan(repository, known, earlier_flags, program, program_seed, settings, is_unknown, own_imports, filtered)


def _try_export(repository: Repository, config: Config, refusals: Refusals) -> OwnImports:
    """Refuse now what the first trial would be refused for: submodules, links that lead out, no room; and a trial
    that would import another code than the candidate's. Returns what else was seen of the imports."""
    folder = common_dir(repository.root) / "autolab.export"
    remove_tree(folder)
    own_imports = OwnImports()
    if repository.lacks_files:
        return own_imports
    try:
        with refusals.collect():
            own_imports = examine(repository.git, repository.root, repository.head, config, folder)
    finally:
        remove_tree(folder)
    if own_imports.problems and not _compiled_part(repository):
        packages: dict[str, str] = {}
        for problem in own_imports.problems:
            # What helps the first module of a package helps the others.
            packages.setdefault(problem.partition(":")[0].partition(".")[0], problem)
        for problem in packages.values():
            refusals.add(LabError(problem))
    return own_imports


def _lacking(own_imports: OwnImports, program: Program) -> str:
    """Packages that are imported and not found, in a sentence with the way out; empty if there are none."""
    if not own_imports.lacking:
        return ""
    names = ", ".join(own_imports.lacking)
    return f"{program.name} needs {names}, not found in the trials' Python: install there, or name another: --python"


def _problems(plan: _Plan, run: FirstRun) -> list[str]:
    """What kept the run from its end and what its code says that comes next, with all missing modules in one line.

    A run ends at the first thing that is missing.
    """
    sources = read_sources(plan.repository, plan.program.script, command_words(plan.program.command)).code
    later = later_needs(sources, run.missing, has_data=any(setting.key == "data" for setting in run.settings))
    problems = [str(finding) for finding in (*run.missing, *later)]
    lacking = _lacking(plan.own_imports, plan.program)
    if len(plan.own_imports.lacking) < 2:
        return problems
    starts = tuple(f"no module {name}" for name in plan.own_imports.lacking)
    return [lacking if any(start in problem for start in starts) else problem for problem in problems]


def _tried(
    plan: _Plan, earlier: EarlierAdoption | None, talk: _Talk
) -> tuple[list[Setting], SeedProof, tuple[str, ...]]:
    """The settings with what a run of the program showed, what two more say of its seed, and where the run wrote.

    LabError, UsageError: all that is missing.
    """
    run = _run(plan, earlier, talk)
    talk.refusals.add_problems(_problems(plan, run))
    settings, is_clear = run.settings, not plan.is_unknown
    if plan.is_unknown:
        with talk.refusals.collect():
            settings = _with_metric_of_run(plan, run, talk)
            is_clear = True
    if is_clear and not run.missing:
        with talk.refusals.collect():
            settings = _with_source(plan, settings, run, talk)
    if talk.refusals.errors and not run.missing:
        talk.tell("  these flags and this run are kept: the same command needs nothing but what is missing")
    talk.refusals.settle(talk.tell)
    settings = _with_delta(settings, plan.request, run, talk)
    config = Config.from_text(config_text(settings), Config.FILE)
    check = SeedCheck(plan.repository, config, plan.program, plan.program_seed, talk.tell, talk.view)
    proof = check.prove(run.probed, plan.limit_s)
    return with_quantum(settings, proof.values, plan.request.delta), proof, run.probed.wrote


def _run(plan: _Plan, earlier: EarlierAdoption | None, talk: _Talk) -> FirstRun:
    """The first run, or that of an earlier command if all that it depends on is the same; it is kept for the next."""
    root, tell = plan.repository.root, talk.tell
    config = Config.from_text(config_text(plan.settings), Config.FILE)
    conditions = conditions_of(plan.repository, plan.settings, config)
    if earlier is not None:
        run = _earlier_run(plan, conditions, earlier.run, tell)
        if run is not None:
            earlier_run.keep(root, _kept(plan.request), earlier.run)
            return run
    run = run_program(plan.repository, plan.settings, plan.limit_s, tell, talk.view)
    earlier_run.keep(root, _kept(plan.request), record_of(plan.repository, conditions, plan.settings, run))
    return run


def _kept(request: AdoptionRequest) -> AdoptionRequest:
    """What the next command may take from this one."""
    return replace(request, delta=None) if request.delta == NO_DELTA else request


def _earlier_run(
    plan: _Plan, conditions: RunConditions, record: EarlierRun, tell: Callable[[str], None]
) -> FirstRun | None:
    """The earlier run, if it still counts; which it is and why not is told."""
    flags = f"as before: {plan.earlier_flags}; " if plan.earlier_flags else ""
    changes = conditions.changes(record)
    at = record.time_of_day
    if record.missing:
        tell(f"{flags}run again, as the run of {at} failed")
        return None
    if plan.request.probe_seconds is not None:
        tell(f"{flags}run again after the run of {at}")
        return None
    run = None if changes else restored(plan.repository, plan.settings, record)
    if run is None:
        tell(f"{flags}run again, as {' and '.join(changes or ['data'])} changed since the run of {at}")
        return None
    tell(f"{flags}the run of {at} showed {run.summary}")
    return run


def _with_metric_of_run(plan: _Plan, run: FirstRun, talk: _Talk) -> list[Setting]:
    """The settings with the metric that the run showed. UsageError: it is not clear which one decides."""
    ask = talk.ask
    if run.missing:
        if not any(direction_of(row.series.name) for row in run.proposals()) and is_clear_once_it_runs(plan.program):
            return run.settings
        # A user is not asked about half of a run.
        ask = refuse(talk.tell)
        if not run.proposals() and not likely_metrics(plan.program)[1]:
            raise UsageError("--metric: the program came to no number that could decide; name the one that will")
    answer = answers.metric_of_run(plan.program, run, plan.request, ask)
    return _with_metric(plan, run.settings, answer)


def _with_metric(plan: _Plan, settings: list[Setting], answer: MetricAnswer) -> list[Setting]:
    """The settings with another metric and all that depends on it."""
    request = replace(plan.request, metric=answer.name, direction=answer.direction)
    chosen = settings_of(plan.repository, plan.program, request)
    of_metric = {setting.key: setting for setting in chosen if setting.key.startswith("metric.")}
    of_metric["metric.primary"] = Setting("metric.primary", answer.name, answer.reason)
    if plan.request.direction is None:
        reason = "by its name" if direction_of(answer.name) == answer.direction else "your answer"
        of_metric["metric.direction"] = Setting("metric.direction", answer.direction, reason)
    return [of_metric.get(setting.key, setting) for setting in settings]


def _with_source(plan: _Plan, settings: list[Setting], run: FirstRun, talk: _Talk) -> list[Setting]:
    """The settings with the place where the run printed the metric. UsageError: it ended without having printed it."""
    by_key = {setting.key: setting.value for setting in settings}
    name = str(by_key["metric.primary"])
    # A pattern is the user's own affair, and trials say what is wrong with it.
    if "train.pattern" in by_key:
        return settings
    printed = run.series_of(name)
    if printed is None and run.is_whole:
        answer = answers.instead_of(name, run, plan.request, talk.ask)
        settings = _with_metric(plan, settings, answer)
        printed = run.series_of(answer.name)
    if printed is None:
        # A file that the program names may be one that the run did not come to.
        if by_key["train.metrics"] in metrics.PRINTED:
            talk.tell(f"  {name} was not printed in this time; --probe-seconds 600 waits longer for it")
        return settings
    reason = f"it {printed.verb} {printed.number} there, the last one {printed.last}"
    found = Setting("train.metrics", printed.source, reason)
    return [found if setting.key == "train.metrics" else setting for setting in settings]


def _with_delta(settings: list[Setting], request: AdoptionRequest, run: FirstRun | None, talk: _Talk) -> list[Setting]:
    """The settings with the smallest difference worth having: given, or proposed from the values of the run."""
    if request.delta is not None:
        return settings
    name = next(str(setting.value) for setting in settings if setting.key == "metric.primary")
    printed = None if run is None else run.series_of(name)
    delta, reason = answers.delta_of_run(name, printed, talk.ask)
    changed = Setting("metric.success_delta", delta, reason)
    return [changed if setting.key == changed.key else setting for setting in settings]


def _with_seed(settings: Iterable[Setting], seed: ProgramSeed, program: Program) -> Iterator[Setting]:
    """The settings with the command that passes the seed on, the constants that it replaces, or libraries to seed."""
    for setting in settings:
        if setting.key == "train.command" and seed.command != setting.value:
            yield replace(setting, value=seed.command, reason=f"{setting.reason}; {seed.reason}")
        else:
            yield setting
        if setting.key == "train.in_copy" and seed.constants:
            yield Setting("train.seed_constants", [str(constant) for constant in seed.constants], seed.reason)
        if setting.key == "train.in_copy" and seeds_libraries(seed, program):
            reason = "it has no seed: random, numpy and torch are seeded when it imports them"
            yield Setting("train.seed_libraries", True, reason)


def _notes(repository: Repository, program: Program, seed: ProgramSeed, config: Config) -> Iterator[str]:
    """What the user should know or do, a line each."""
    if seed.how == "none" and program.script is not None and not seeds_libraries(seed, program):
        source = "the environment variable AUTOLAB_SEED"
        if program.script.endswith(".py"):
            source = 'SEED = int(os.environ.get("AUTOLAB_SEED", "0"))'
        way_out = f"seed its random numbers from {source}, and commit"
        yield (
            f"{program.name} never reads AUTOLAB_SEED, and no other seed was found in it: trials repeat one training,"
            f" or differ by chance that no seed repeats, and a gain cannot be told from chance: {way_out}"
        )
    compiled = _compiled_part(repository)
    if compiled:
        yield (
            f"{compiled}: the package has to be compiled, but trials import the candidate's code from git, where"
            " nothing is built: install it in an environment of its own (pip install ., not -e) and name that:"
            " --python /path/to/env/bin/python; candidates then change what lies outside of it"
        )
    unseen = [path for path in repository.untracked if path.rstrip("/") not in config.data_in_repository]
    if unseen:
        names = ", ".join(unseen[:NAMED])
        if len(unseen) > NAMED:
            names += f" and {len(unseen) - NAMED} more"
        yield f"not committed, so trials do not see: {names}"
    # Other documents of these names stay as they are.
    for path in DOCUMENTS:
        if path in config.files.global_ and os.path.lexists(repository.root / path):
            yield f"{path} is yours; the lab's entries will go above what it holds"
    yield (
        f"no evaluator measures {config.metric.primary}: the numbers are what {program.name} reports, and are marked"
        " self-reported; `autolab init --evaluator` adds one"
    )


def _compiled_part(repository: Repository) -> str:
    """What shows that the repository's own package has to be compiled; empty if nothing does."""
    if repository.holds("setup.py"):
        call = _SETUP_COMPILES.search(repository.text("setup.py"))
        if call:
            return f"setup.py: {call[1]}"
    if repository.holds("pyproject.toml"):
        for name in _build_requirements(repository.text("pyproject.toml")):
            if _BUILDER_COMPILES.match(name):
                return f"pyproject.toml: build-system: {name}"
    # In the checkout: git does not hold what was built, but it holds the folders where that lies.
    folders = {str(PurePosixPath(path).parent) for path in repository.git.files(repository.head)}
    for folder in sorted(folders):
        for pattern in ("*.so", "*.pyd", "*.pyx"):
            for path in sorted((repository.root / folder).glob(pattern)):
                return str(path.relative_to(repository.root))
    return ""


def _build_requirements(pyproject: str) -> list[str]:
    try:
        system = tomllib.loads(pyproject).get("build-system", {})
    except tomllib.TOMLDecodeError:
        # Whoever builds the package learns of that; here it is only a hint.
        return []
    backend = str(system.get("build-backend", ""))
    return [backend, *map(str, system.get("requires", ()))]
