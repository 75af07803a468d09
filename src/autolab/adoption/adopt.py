"""`autolab init --from-existing`: a repository with a training program of its own becomes a lab.

Every setting that was detected is printed and stands in `.autolab/config.yaml`, where it can be changed. Only new files
are written; nothing is committed and nothing of the user's is changed. What git is to ignore goes into
`.git/info/exclude`. Every refusal comes before the first file. If the command is killed, the same command goes on.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from autolab.adoption.detection import AdoptionRequest, settings_of
from autolab.adoption.filtered_files import filtered_files, note_of, refuse_read
from autolab.adoption.lab_files import DOCUMENTS, config_text, write_files
from autolab.adoption.own_imports import OwnImports, examine, notes_of
from autolab.adoption.repository import Repository, open_repository
from autolab.adoption.training_program import Program, find_program
from autolab.errors import LabError
from autolab.lab.create import register
from autolab.lab.git import common_dir
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.sandbox.collect import remove_tree

NAMED = 3
"""Files that a note names at most."""

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
    settings = settings_of(repository, program, request)
    text = config_text(settings)
    config = Config.from_text(text, Config.FILE)
    filtered = filtered_files(repository, program, config)
    refuse_read(filtered, has_data=request.data is not None)
    # The last refusal. From here on files are written.
    own_imports = _try_export(repository, config)
    tell(f"settings, which you can change in {Config.FILE}:")
    for setting in settings:
        tell(f"  {setting}")
    notes = [*_notes(repository, program, config), *notes_of(own_imports, program.name), note_of(filtered)]
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


def _notes(repository: Repository, program: Program, config: Config) -> Iterator[str]:
    """What the user should know or do, a line each."""
    if program.script is not None and "AUTOLAB_SEED" not in program.text + program.neighbours:
        source = "the environment variable AUTOLAB_SEED"
        if program.script.endswith(".py"):
            source = 'SEED = int(os.environ.get("AUTOLAB_SEED", "0"))'
        yield (
            f"{program.name} never reads AUTOLAB_SEED, so each trial repeats the same training, and a gain cannot be"
            f" told from chance: seed its random numbers from {source}, and commit"
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
        " self-reported"
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
