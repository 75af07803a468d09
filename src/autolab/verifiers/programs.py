"""The lab's checks: its own programs (tests, dry run, smoke, summary), run on a read-only export of a candidate.

Nothing that a candidate wrote is imported here: its tests, dry run and model summary run in processes of their
own, and their exit codes alone decide. What a check finds is a finding; a mistake of the user's in the policy raises
a RecordError.
"""

from __future__ import annotations

import operator
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from autolab.errors import RecordError
from autolab.lab import redaction
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.experiment import Design, Finding, Hypothesis, Summary
from autolab.lab.schemas.record import Record
from autolab.lab.trial_python import OWN_PYTHON
from autolab.sandbox import execute
from autolab.sandbox.box import OPEN, Box
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.sandbox.environment import ProgramEnvironment
from autolab.verifiers import syntax
from autolab.verifiers.findings import blocking_finding

Check = Literal["pass", "skip", "fail"]
POLICY = VerifierPolicy.FILE
SUMMARY_LIMIT = 1_000_000
CHECKS = ("tests", "dry_run", "env_smoke", "schema", "syntax", "summary")
SEED = 0
"""The AUTOLAB_SEED of every check."""
EXPERIMENT = "experiments/<ITERATION_ID>"
"""In a command: the iteration's folder in the lab."""
_STARTS = '{python} -c ""'
"""Without a command of the user's: whether the interpreter starts at all."""


@dataclass(frozen=True)
class CheckResults:
    """What the checks found: per check pass, skip or fail, the findings, and the model's summary."""

    checks: dict[str, Check]
    findings: tuple[Finding, ...]
    summary: Summary | None


@dataclass(frozen=True)
class CheckInputs:
    """Where and with what the checks' programs run.

    `folder`: read-only export of the candidate, the working folder. `python`: the trials' interpreter.
    `scratch`: one folder a check, which alone it may write (AUTOLAB_TRIAL_DIR). `logs`: `<check>.log`. `config`: the
    arm's resolved settings (AUTOLAB_CONFIG). `data`: the training data (AUTOLAB_DATA). `experiment`: the lab's
    `experiments/<ITERATION_ID>`, which an export does not hold. `imports`: the folder that sends imports of the lab's
    package to the export (PYTHONPATH). `user`: the variables that `train.env` names. `commit`: of the export, and
    `repository`: its git directory, if trials have one. `box`: level, limits, and where the interpreter lies.
    `with_base_tests`: the same code with the lab's tests as the base has them, if the candidate changed any.
    `environment_works`: the environment passed its check for another idea of the batch, and is not checked again.
    `syntax_errors`: a line for each changed file that our Python cannot compile, by path; `newer_python`: the trials'
    may know syntax that ours does not, so it is asked too.
    """

    folder: Path
    python: str
    iteration_id: str
    scratch: Path
    logs: Path
    config: Path | None = None
    data: Path | None = None
    experiment: Path | None = None
    imports: Path | None = None
    user: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    repository: Path | None = None
    with_base_tests: Path | None = None
    environment_works: bool = False
    syntax_errors: Mapping[str, str] = field(default_factory=dict)
    newer_python: bool = False
    box: Box = OPEN

    def environment(self, folder: Path) -> dict[str, str]:
        """A training's, for a check that may write in `folder`."""
        environment = ProgramEnvironment(
            self.python, _text(self.imports), self.user, commit=self.commit, repository=_text(self.repository)
        )
        return environment.training(str(folder), SEED, _text(self.config), _text(self.data))

    def boxed(self, working_folder: Path, folder: Path) -> Box:
        """Reads everything that is named here, writes `folder`."""
        reads = list(self.box.reads)
        # The candidate's folder too when another one is the working folder: `imports` leads to it.
        inputs = (self.config, self.data, self.experiment, self.imports, self.repository)
        for path in (working_folder, self.folder, *inputs):
            if path is not None:
                reads.append(str(path.absolute()))
        return replace(self.box, reads=tuple(dict.fromkeys(reads)), writes=(str(folder.absolute()),))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def run_checks(policy: VerifierPolicy, inputs: CheckInputs) -> CheckResults:
    """Run the policy's checks: schema, syntax, env_smoke, tests, dry_run, summary.

    If a file does not compile, or the environment is broken, the checks after that are skipped: their failures would
    say nothing more about the candidate.
    RecordError: the policy holds something that is not a command line or a version.
    """
    checks = _Checks(policy, inputs)
    checks.schema()
    if checks.compiles() and checks.environment_works():
        checks.tests()
        checks.dry_run()
        checks.model_summary()
    return CheckResults(checks.statuses, tuple(checks.findings), checks.summary)


def check_commands(policy: VerifierPolicy) -> dict[str, str]:
    """The commands of the policy's checks, in their order, by the name of the check."""
    commands = {
        "env_smoke": policy.smoke_command or (_STARTS if policy.require_env_smoke else None),
        "tests": policy.test_command,
        "dry_run": policy.dry_run_command,
        "summary": policy.summary_command,
    }
    return {name: command for name, command in commands.items() if command is not None}


def check_arguments(name: str, command: str, inputs: CheckInputs) -> list[str]:
    """The command as arguments, with `{python}`, `{seed}`, `<ITERATION_ID>` and the iteration's folder filled in.

    `./venv/bin/python` stands for the trials' interpreter: an export has no venv. RecordError: no command line.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise RecordError(f"{POLICY}: {name}: {command!r} is not a command line: {error}") from None
    if not words:
        raise RecordError(f"{POLICY}: {name}: the command is empty: write it or remove the key")
    # A candidate that commits an interpreter of that name keeps it.
    if words[0].removeprefix("./") in OWN_PYTHON and not (inputs.folder / words[0]).exists():
        words[0] = "{python}"
    values = {"<ITERATION_ID>": inputs.iteration_id, "{python}": inputs.python, "{seed}": str(SEED)}
    # First, because the other placeholder is a part of this one.
    if inputs.experiment is not None:
        values = {EXPERIMENT: str(inputs.experiment)} | values
    # Word by word after the split: a value may hold spaces.
    for placeholder, value in values.items():
        words = [word.replace(placeholder, value) for word in words]
    return words


class _Checks:
    """One run of the checks. `statuses` and `findings` grow with each method."""

    def __init__(self, policy: VerifierPolicy, inputs: CheckInputs) -> None:
        self._policy, self._inputs = policy, inputs
        self.statuses: dict[str, Check] = dict.fromkeys(CHECKS, "skip")
        self.findings: list[Finding] = []
        self.summary: Summary | None = None

    def _settle(self, name: str, *findings: Finding | None) -> None:
        failures = [finding for finding in findings if finding is not None]
        self.statuses[name] = "fail" if failures else "pass"
        self.findings += failures

    def schema(self) -> None:
        """The iteration's own documents, read as the records that they must be."""
        experiment = self._inputs.experiment
        if experiment is None:
            return
        documents: dict[str, type[Record]] = {"design.yaml": Design, "hypothesis.md": Hypothesis}
        findings = []
        for name, kind in documents.items():
            try:
                kind.load(experiment / name)
            except RecordError as error:
                file = f"experiments/{self._inputs.iteration_id}/{name}"
                findings.append(blocking_finding("schema", str(error), file))
        self._settle("schema", *findings)

    def compiles(self) -> bool:
        """Whether the Python that trials run with can compile every file that the candidate changed."""
        findings = []
        for path, line in self._inputs.syntax_errors.items():
            if self._inputs.newer_python:
                line = self._newer_syntax_error(path)
            if line:
                findings.append(blocking_finding("syntax", line, path))
        self._settle("syntax", *findings)
        return not findings

    def _newer_syntax_error(self, path: str) -> str:
        """The same line as `syntax.syntax_error`, by the trials' Python; empty if it compiles the file."""
        argv = [self._inputs.python, "-I", "-c", syntax.ASK_PYTHON, path]
        ended = self._execute("syntax", argv, self._new_folder("syntax"))
        # An interpreter that does not work is found by the next check.
        return f"{path}:{ended.last_line}" if ended.code == 1 else ""

    def environment_works(self) -> bool:
        policy = self._policy
        if self._inputs.environment_works:
            self._settle("env_smoke")
        elif policy.require_env_smoke or policy.smoke_command or policy.python_versions:
            failure = self._run("env_smoke", policy.smoke_command or _STARTS)
            self._settle("env_smoke", failure or self._wrong_python())
        return self.statuses["env_smoke"] != "fail"

    def tests(self) -> None:
        """The candidate's own tests, then the lab's as the base has them: a candidate may add tests, not remove any."""
        policy, inputs = self._policy, self._inputs
        if policy.test_command is None:
            if policy.require_tests:
                message = f"tests are required and {POLICY} has no test_command: set it"
                self._settle("tests", blocking_finding("tests", message))
            return
        if has_tests(inputs.folder):
            self._settle("tests", self._run("tests", policy.test_command))
        elif policy.require_tests:
            message = "tests are required and the candidate has none: add tests/test_*.py"
            self._settle("tests", blocking_finding("tests", message))
        base_tests = inputs.with_base_tests
        if self.statuses["tests"] == "fail" or base_tests is None or not has_tests(base_tests):
            return
        # The candidate's tests passed, but it wrote them: those of the base decide.
        failure = self._run("base_tests", policy.test_command, working_folder=base_tests)
        if failure is not None:
            message = f"the lab's own tests, as the base has them, fail on this code: {failure.message}"
            failure = blocking_finding("tests", message)
        self._settle("tests", failure)

    def dry_run(self) -> None:
        command = self._policy.dry_run_command
        if command is not None:
            self._settle("dry_run", self._run("dry_run", command))
        elif self._policy.require_dry_run:
            message = f"a dry run is required and {POLICY} has no dry_run_command: set it"
            self._settle("dry_run", blocking_finding("dry_run", message))

    def model_summary(self) -> None:
        command = self._policy.summary_command
        if command is None:
            return
        path = self._new_folder("summary") / "summary.json"
        failure = self._run("summary", command, path.parent)
        if failure is None:
            # Written by the candidate's code: it may be a link, a pipe or of any size.
            try:
                with open_regular(path, SUMMARY_LIMIT) as file:
                    self.summary = Summary.from_text(file.read(SUMMARY_LIMIT + 1).decode("utf-8"), path.name)
            except InvalidFile as error:
                message = f"{path.name}: {error}; {command} must write it to AUTOLAB_TRIAL_DIR"
                failure = blocking_finding("summary", message)
            except (RecordError, UnicodeDecodeError) as error:
                failure = blocking_finding("summary", str(error))
        self._settle("summary", failure)

    def _run(
        self, name: str, command: str, folder: Path | None = None, working_folder: Path | None = None
    ) -> Finding | None:
        """None if the command ended with exit code 0, else the finding with its last lines.

        `folder`: where it may write, a new one if None. `working_folder`: another than the candidate's export."""
        argv = check_arguments(name, command, self._inputs)
        ended = self._execute(name, argv, folder or self._new_folder(name), working_folder)
        if ended.ok:
            return None
        if ended.missing is not None:
            source = f"{_KEYS[name]} in {POLICY}"
            if argv[0] == self._inputs.python:
                source = f"python in {Config.FILE}"
            return blocking_finding(name, f"{argv[0]}: {ended.missing}: install it or change {source}")
        # A limit comes first: what it does to a program shows as a signal or an exit code too.
        if ended.passed is not None:
            end = f"ended: {ended.passed.removeprefix('run ')}"
        elif ended.timed_out:
            end = f"still running after {self._policy.time_limit_s:g} s and ended"
        else:
            end = ended.killed or f"ended with exit code {ended.code}"
        return blocking_finding(name, f"{command}: {end}{_quoted(ended.tail)}")

    def _execute(self, name: str, argv: list[str], folder: Path, working_folder: Path | None = None) -> execute.Ended:
        inputs = self._inputs
        working_folder = working_folder or inputs.folder
        log = inputs.logs / f"{name}.log"
        box = inputs.boxed(working_folder, folder)
        limit_s = self._policy.time_limit_s
        ended = execute.run(argv, working_folder, inputs.environment(folder), log, limit_s, box)
        # A program may print its environment, and with it the user's tokens.
        redaction.clean_file(log)
        return ended

    def _new_folder(self, name: str) -> Path:
        """A new folder `<name>`, or `<name>-2` … if a killed attempt left one: nothing in that counts."""
        scratch = self._inputs.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        folder, number = scratch / name, 1
        while os.path.lexists(folder):
            number += 1
            folder = scratch / f"{name}-{number}"
        folder.mkdir()
        return folder

    def _wrong_python(self) -> Finding | None:
        """Compare the trials' interpreter with `>=3.11,<3.14`, as far as each version in it goes."""
        versions = self._policy.python_versions
        if versions is None:
            return None
        python = self._inputs.python
        # -I: a candidate's sitecustomize could print another version.
        argv = [python, "-I", "-c", "import sys; print(*sys.version_info[:3])"]
        ended = self._execute("python_version", argv, self._new_folder("python_version"))
        numbers = ended.tail.split()
        if not ended.ok or len(numbers) != 3:
            return blocking_finding("env_smoke", f"{python}: does not print its version{_quoted(ended.tail)}")
        version = [int(number) for number in numbers]
        for part in versions.split(","):
            condition = re.fullmatch(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})\s*", part)
            if condition is None:
                raise RecordError(
                    f"{POLICY}: python_versions: {versions!r} is not understood: write it like >=3.11,<3.14"
                )
            # `<=3.12` allows 3.12.4: only as many numbers are compared as the bound has.
            bound = [int(number) for number in condition[2].split(".")]
            if not _COMPARISONS[condition[1]](version[: len(bound)], bound):
                message = f"{python} is Python {'.'.join(numbers)}, and {POLICY} wants {versions}: make the venv anew"
                return blocking_finding("env_smoke", message)
        return None


_KEYS = {
    "env_smoke": "smoke_command",
    "tests": "test_command",
    "base_tests": "test_command",
    "dry_run": "dry_run_command",
    "summary": "summary_command",
}
"""Check -> the key of the policy that holds its command."""
_COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def has_tests(folder: Path) -> bool:
    """True if the export holds a file under `tests/` or `test/`, or a pytest file at its top."""
    for name in ("tests", "test"):
        if any(path.is_file() for path in (folder / name).glob("**/*")):
            return True
    return any(folder.glob("test_*.py")) or any(folder.glob("*_test.py"))


def _quoted(tail: str) -> str:
    return f"; its last lines:\n{tail}" if tail else "; it printed nothing"
