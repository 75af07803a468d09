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

from autolab.adoption.detection import AdoptionRequest, Setting, settings_of
from autolab.adoption.lab_files import DOCUMENTS, config_text, write_files
from autolab.adoption.probe_findings import findings
from autolab.adoption.program_probe import probe
from autolab.adoption.repository import Repository, open_repository
from autolab.adoption.training_program import Program, find_program
from autolab.errors import LabError
from autolab.lab.create import register
from autolab.lab.git import common_dir
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.exit_record import TrialOutcome
from autolab.trials import inputs

NAMED = 3
"""Files that a note names at most."""
ROUNDS = 3
"""How often the program is tried at most, each time with one more thing that it was seen to need."""

_SETUP_COMPILES = re.compile(r"\b(ext_modules|cythonize|cffi_modules|rust_extensions)\b")
_BUILDER_COMPILES = re.compile(
    r"(mesonpy|meson-python|scikit[_-]build|maturin|cython|pybind11|nanobind|setuptools[_-]rust|cffi)(?![a-z0-9])",
    re.IGNORECASE,
)


def adopt(folder: Path, request: AdoptionRequest, seed: int | None, tell: Callable[[str], None]) -> Lab:
    """Make a lab of the repository at `folder`. LabError, GitError, UsageError: why it cannot be, and the way out."""
    repository = open_repository(folder.resolve())
    program = find_program(repository, request.train_command)
    settings = settings_of(repository, program, request)
    text = config_text(settings)
    config = Config.from_text(text, Config.FILE)
    _try_export(repository, config)
    # The last refusal. From here on files are written.
    if request.probe_seconds > 0:
        settings = _try_program(repository, settings, request.probe_seconds, tell)
        text = config_text(settings)
        config = Config.from_text(text, Config.FILE)
    tell(f"settings, which you can change in {Config.FILE}:")
    for setting in settings:
        tell(f"  {setting}")
    for note in _notes(repository, program, config):
        tell(f"note: {note}")
    paths = write_files(repository, program, config, text)
    lab = register(repository.root, seed)
    tell(f"written, and yours to commit: {', '.join(paths)}")
    return lab


def _try_export(repository: Repository, config: Config) -> None:
    """Refuse now what the first trial would be refused for: submodules, links that lead out, no room."""
    folder = common_dir(repository.root) / "autolab.export"
    try:
        repository.git.export(repository.head, folder / "code", None, inputs.hidden_from_trials(config))
    finally:
        remove_tree(folder)


def _try_program(
    repository: Repository, settings: list[Setting], limit_s: float, tell: Callable[[str], None]
) -> list[Setting]:
    """The settings after a short run of the program, with a data folder that it was seen to need.

    LabError: it does not run as a trial would run it; what is missing was told, a line each.
    """
    for _ in range(ROUNDS):
        config = Config.from_text(config_text(settings), Config.FILE)
        tell(f"trying {config.train.command} for at most {limit_s:.0f} s, as a trial would run it (Ctrl-C ends it)")
        probed = probe(repository, config, limit_s, tell)
        missing = findings(probed, repository, config.python or "the Python that runs Autolab")
        folders = [finding.data for finding in missing if finding.data]
        # A folder that git does not hold is bound at once: the program may need more, and says so in the next round.
        if not folders or config.data is not None:
            break
        settings = [*settings, Setting("data", folders[0], "the program reads it, and git does not hold it")]
        tell(f"  {missing[0]}: bound")
    if missing:
        for finding in missing:
            tell(f"  missing: {finding}")
        number = "one thing is" if len(missing) == 1 else f"{len(missing)} things are"
        raise LabError(
            f"the training does not run as a trial yet: {number} missing, see above; --probe-seconds 0 makes the lab"
            " without trying it"
        )
    how = (
        "stopped by you" if probed.stopped else "ended" if probed.outcome is TrialOutcome.COMPLETED else "still running"
    )
    tell(f"  {how} after {probed.seconds:.0f} s, without an error")
    return settings


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
