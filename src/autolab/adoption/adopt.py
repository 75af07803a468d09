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
from dataclasses import replace
from pathlib import Path, PurePosixPath

from autolab.adoption import first_run
from autolab.adoption.detection import AdoptionRequest, Setting, has_clear_metric, settings_of
from autolab.adoption.filtered_files import filtered_files, note_of, refuse_read
from autolab.adoption.lab_files import DOCUMENTS, config_text, write_files
from autolab.adoption.own_imports import OwnImports, examine, notes_of
from autolab.adoption.program_probe import Probed
from autolab.adoption.program_seed import ProgramSeed, find_seed, seeds_libraries
from autolab.adoption.repository import Repository, open_repository
from autolab.adoption.training_program import Program, find_program
from autolab.errors import LabError
from autolab.lab.create import register
from autolab.lab.git import common_dir
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.sandbox.collect import remove_tree
from autolab.trials import metrics

NAMED = 3
"""Files that a note names at most."""
UNKNOWN = "unknown"
"""The metric of a program while it is tried for the first time."""

_ASKS_GIT = re.compile(
    r"""(?m)^\s*(?:import|from) git\b|\bgit\.Repo\("""
    r"""|["']git["'],\s*["'][a-z-]+["']|["'`(]git (?:rev-parse|describe|log|status|diff)\b"""
)
"""GitPython, and calls of git by a list of words or by a line."""
_SETUP_COMPILES = re.compile(r"\b(ext_modules|cythonize|cffi_modules|rust_extensions)\b")
_BUILDER_COMPILES = re.compile(
    r"(mesonpy|meson-python|scikit[_-]build|maturin|cython|pybind11|nanobind|setuptools[_-]rust|cffi)(?![a-z0-9])",
    re.IGNORECASE,
)


def adopt(folder: Path, request: AdoptionRequest, seed: int | None, tell: Callable[[str], None]) -> Lab:
    """Make a lab of the repository at `folder`. LabError, GitError, UsageError: why it cannot be, and the way out."""
    repository = open_repository(folder.resolve())
    program = find_program(repository, request.train_command, request.python)
    program_seed = find_seed(repository, program)
    # Of a program that is tried, the run shows which metrics there are.
    is_unknown = request.probe_seconds > 0 and request.metric is None and not has_clear_metric(program)
    known = replace(request, metric=UNKNOWN, direction="minimize") if is_unknown else request
    settings = list(_with_seed(settings_of(repository, program, known), program_seed, program))
    config = Config.from_text(config_text(settings), Config.FILE)
    filtered = filtered_files(repository, program, config)
    refuse_read(filtered, has_data=request.data is not None)
    own_imports = _try_export(repository, config)
    # The last refusals. From here on files are written.
    if request.probe_seconds > 0:
        settings, probed = first_run.run_program(repository, settings, request.probe_seconds, tell)
        if is_unknown:
            name = first_run.choose_metric(probed, tell).series.name
            chosen = settings_of(repository, program, replace(request, metric=name))
            settings = _with_metric(settings, chosen, name)
        settings = _with_source(settings, probed, tell)
    text = config_text(settings)
    config = Config.from_text(text, Config.FILE)
    tell(f"settings, which you can change in {Config.FILE}:")
    for setting in settings:
        tell(f"  {setting}")
    notes = [
        *_notes(repository, program, program_seed, config),
        *notes_of(own_imports, program.name),
        note_of(filtered),
    ]
    for note in filter(None, notes):
        tell(f"note: {note}")
    paths = write_files(repository, program, config, text)
    lab = register(repository.root, seed)
    tell(f"written, and yours to commit: {', '.join(paths)}")
    return lab


def _try_export(repository: Repository, config: Config) -> OwnImports:
    """Refuse now what the first trial would be refused for: submodules, links that lead out, no room; and a trial
    that would import another code than the candidate's. Returns what else was seen of the imports."""
    folder = common_dir(repository.root) / "autolab.export"
    remove_tree(folder)
    try:
        own_imports = examine(repository.git, repository.root, repository.head, config, folder)
    finally:
        remove_tree(folder)
    if own_imports.problems and not _compiled_part(repository):
        raise LabError(own_imports.problems[0])
    return own_imports


def _with_metric(settings: list[Setting], chosen: list[Setting], name: str) -> list[Setting]:
    """The settings with the metric that the run showed; `chosen` are those of a request that names it."""
    of_metric = {setting.key: setting for setting in chosen if setting.key.startswith("metric.")}
    of_metric["metric.primary"] = Setting(
        "metric.primary", name, "the one number that it printed and that could decide"
    )
    return [of_metric.get(setting.key, setting) for setting in settings]


def _with_source(settings: list[Setting], probed: Probed, tell: Callable[[str], None]) -> list[Setting]:
    """The settings with the place where the run printed the metric. UsageError: it ended without having printed it."""
    by_key = {setting.key: setting.value for setting in settings}
    name = str(by_key["metric.primary"])
    # A file or a pattern that the user named is their own affair, and trials say what is wrong with it.
    if by_key["train.metrics"] not in metrics.PRINTED or "train.pattern" in by_key:
        return settings
    printed = first_run.printed_metric(probed, name)
    if printed is None:
        first_run.refuse_unprinted(probed, name, tell)
        tell(f"  {name} was not printed in this time; --probe-seconds 600 waits longer for it")
        return settings
    values = "1 value" if printed.series.count == 1 else f"{printed.series.count} values"
    reason = f"it printed {values} there, the last one {printed.series.last:.{printed.series.decimals}f}"
    found = Setting("train.metrics", printed.source, reason)
    return [found if setting.key == "train.metrics" else setting for setting in settings]


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
    call = _ASKS_GIT.search(program.text + program.neighbours)
    if call:
        yield (
            f"{program.name} asks git ({call[0].strip()}), and a trial's code is an export without a repository, so"
            " that call fails there: let the program go on without an answer, and commit"
        )
    compiled = _compiled_part(repository)
    if compiled:
        yield (
            f"{compiled}: the package has to be compiled, but trials import the candidate's code from git, where"
            " nothing is built: install it in an environment of its own (pip install ., not -e) and name that:"
            " --python /path/to/env/bin/python; candidates then change what lies outside of it"
        )
    unseen = [path for path in repository.untracked if path.rstrip("/") != config.data]
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
