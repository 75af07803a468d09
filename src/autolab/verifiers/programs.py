"""The lab's checks: its own programs (tests, dry run, smoke, summary), run on a read-only export of a candidate.

Nothing that a candidate wrote is imported here: its tests, dry run and model summary run in processes of their
own (`process`), and their exit codes alone decide. What they find are values; what the user wrote wrongly in
the policy raises one line.
"""

from __future__ import annotations

import operator
import os
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from autolab.errors import RecordError
from autolab.lab import redaction
from autolab.lab.front_matter import front_matter
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.experiment import Design, Finding, Hypothesis, Summary
from autolab.lab.trial_python import OWN_PYTHON
from autolab.sandbox import execute
from autolab.sandbox.box import OPEN, Box
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.verifiers.findings import blocking_finding

Check = Literal["pass", "skip", "fail"]
POLICY = VerifierPolicy.FILE
SUMMARY_LIMIT = 1_000_000


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
    `experiments/<ITERATION_ID>`, which an export does not hold. `imports`: what sends imports of the lab's package to
    the export (PYTHONPATH). `box`: level, limits, and where the interpreter lies. `with_base_tests`: the same code with
    the lab's tests as the base has them, where the candidate changed any.
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
    with_base_tests: Path | None = None
    box: Box = OPEN

    def boxed(self, folder: Path) -> Box:
        """Reads everything that is named here, writes `folder`."""
        given = (self.folder, self.config, self.data, self.experiment, self.imports)
        seen = tuple(str(path.absolute()) for path in given if path is not None)
        return replace(self.box, reads=(*self.box.reads, *seen), writes=(str(folder.absolute()),))


def run_checks(policy: VerifierPolicy, ground: CheckInputs) -> CheckResults:
    """Run the policy's rungs: schema, env_smoke, tests, dry_run, summary.

    A broken environment skips the rungs above it, whose failures would say nothing about the candidate.
    RecordError: a policy that cannot be read as a command line.
    """
    checks: dict[str, Check] = {name: "skip" for name in ("tests", "dry_run", "env_smoke", "schema", "summary")}
    findings = _schema(ground)
    if ground.experiment is not None:
        checks["schema"] = "fail" if findings else "pass"
    if policy.require_env_smoke or policy.smoke_command or policy.python_versions:
        broken = _run_check("env_smoke", policy.smoke_command or '{python} -c ""', policy, ground)
        broken = broken or _python_version(policy, ground)
        checks["env_smoke"] = "fail" if broken else "pass"
        if broken is not None:
            return CheckResults(checks, (*findings, broken), None)
    for name, command, missing in _checks_of(policy, ground.folder):
        found = missing if command is None else _run_check(name, command, policy, ground)
        findings += [found] if found is not None else []
        checks[name] = "fail" if found is not None else "skip" if command is None else "pass"
    if policy.test_command is not None and ground.with_base_tests is not None and checks["tests"] != "fail":
        found = _base_tests(policy.test_command, policy, ground, ground.with_base_tests)
        findings += [found] if found is not None else []
        checks["tests"] = "fail" if found is not None else "pass"
    summary = None
    if policy.summary_command is not None:
        summary, found = _summary(policy.summary_command, policy, ground)
        findings += [found] if found is not None else []
        checks["summary"] = "fail" if found is not None else "pass"
    return CheckResults(checks, tuple(findings), summary)


def _base_tests(command: str, policy: VerifierPolicy, ground: CheckInputs, folder: Path) -> Finding | None:
    """The lab's tests as the base has them, on the candidate's code: it may add tests, not take any away."""
    if not has_tests(folder):
        return None
    found = _run_check("base_tests", command, policy, replace(ground, folder=folder))
    if found is None:
        return None
    told = f"the lab's own tests, as the base has them, say of this code: {found.message}"
    return blocking_finding("tests", told)


def _checks_of(policy: VerifierPolicy, folder: Path) -> list[tuple[str, str | None, Finding | None]]:
    """Name, command (None: not to be run) and the finding if the policy requires what is missing."""
    tests, no_tests = policy.test_command, None
    if tests is not None and not has_tests(folder):
        tests = None
        no_tests = "tests are required and the candidate has none: add tests/test_*.py"
    elif tests is None:
        no_tests = f"tests are required and {POLICY} has no test_command: set it"
    no_dry_run = f"a dry run is required and {POLICY} has no dry_run_command: set it"
    return [
        ("tests", tests, blocking_finding("tests", no_tests) if no_tests and policy.require_tests else None),
        (
            "dry_run",
            policy.dry_run_command,
            blocking_finding("dry_run", no_dry_run) if policy.require_dry_run else None,
        ),
    ]


def has_tests(folder: Path) -> bool:
    """True if the export holds a file under `tests/` or `test/`, or a pytest file at its top."""
    for name in ("tests", "test"):
        if any(path.is_file() for path in (folder / name).glob("**/*")):
            return True
    return any(folder.glob("test_*.py")) or any(folder.glob("*_test.py"))


def _schema(ground: CheckInputs) -> list[Finding]:
    """The iteration's own documents, read as the records that they must be."""
    if ground.experiment is None:
        return []
    found = []
    for name, read in (("design.yaml", Design.load), ("hypothesis.md", _load_hypothesis)):
        try:
            read(ground.experiment / name)
        except RecordError as error:
            found.append(blocking_finding("schema", str(error), f"experiments/{ground.iteration_id}/{name}"))
    return found


def _load_hypothesis(path: Path) -> Hypothesis:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{path.name}: not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name}: cannot be read: {error}") from None
    return Hypothesis.from_text(front_matter(text, path.name), path.name)


# one rung

_KEYS = {
    "env_smoke": "smoke_command",
    "tests": "test_command",
    "base_tests": "test_command",
    "dry_run": "dry_run_command",
}


def _run_check(
    name: str, command: str, policy: VerifierPolicy, ground: CheckInputs, folder: Path | None = None
) -> Finding | None:
    """None if the command ended with exit code 0, else the finding with its last lines."""
    folder = folder or _fresh(ground.scratch, name)
    argv, environment = _argv(name, command, ground), _environment(ground, folder)
    log = ground.logs / f"{name}.log"
    run = execute.run(argv, ground.folder, environment, log, policy.time_limit_s, ground.boxed(folder))
    redaction.clean_file(log)
    if run.ok:
        return None
    if run.missing is not None:
        where = f"{_KEYS.get(name, 'summary_command')} in {POLICY}"
        where = f"python in {Config.FILE}" if argv[0] == ground.python else where
        return blocking_finding(name, f"{argv[0]}: {run.missing}: install it or change {where}")
    how = run.killed or f"ended with exit code {run.code}"
    how = f"still running after {policy.time_limit_s:g} s and ended" if run.timed_out else how
    how = f"ended: {run.passed.removeprefix('run ')}" if run.passed is not None else how
    return blocking_finding(name, f"{command}: {how}{_quoted(run.tail)}")


def _fresh(scratch: Path, name: str) -> Path:
    """A new folder `<name>`, or `<name>-2` … where an earlier, killed attempt left one: nothing of it counts."""
    scratch.mkdir(parents=True, exist_ok=True)
    folder, number = scratch / name, 1
    while os.path.lexists(folder):
        number += 1
        folder = scratch / f"{name}-{number}"
    folder.mkdir()
    return folder


def _argv(name: str, command: str, ground: CheckInputs) -> list[str]:
    """The command as arguments, with `{python}`, `<ITERATION_ID>` and the iteration's folder filled in.

    `./venv/bin/python` stands for the trials' interpreter: an export has no venv.
    """
    try:
        words = shlex.split(command)  # a candidate that brings an interpreter of that name keeps it
    except ValueError as error:
        raise RecordError(f"{POLICY}: {name}: {command!r} is not a command line: {error}") from None
    if not words:
        raise RecordError(f"{POLICY}: {name}: the command is empty: write it or remove the key")
    if words[0].removeprefix("./") in OWN_PYTHON and not (ground.folder / words[0]).exists():
        words[0] = "{python}"
    if ground.experiment is not None:
        words = [word.replace("experiments/<ITERATION_ID>", str(ground.experiment)) for word in words]
    return [word.replace("<ITERATION_ID>", ground.iteration_id).replace("{python}", ground.python) for word in words]


def _environment(ground: CheckInputs, folder: Path) -> dict[str, str]:
    """The whole environment of a check: nothing of the user's."""
    beside = f"{Path(ground.python).parent}:" if "/" in ground.python else ""
    values = {
        "PATH": f"{beside}/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "{scratch}",
        "TMPDIR": "{scratch}",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUTOLAB_TRIAL_DIR": str(folder),
        "AUTOLAB_SEED": "0",
    }
    given = {"AUTOLAB_CONFIG": ground.config, "AUTOLAB_DATA": ground.data, "PYTHONPATH": ground.imports}
    return values | {name: str(path) for name, path in given.items() if path is not None}


def _summary(command: str, policy: VerifierPolicy, ground: CheckInputs) -> tuple[Summary | None, Finding | None]:
    path = _fresh(ground.scratch, "summary") / "summary.json"
    failed = _run_check("summary", command, policy, ground, path.parent)
    if failed is not None:
        return None, failed
    try:
        with open_regular(path, SUMMARY_LIMIT) as file:
            return Summary.from_text(file.read(SUMMARY_LIMIT + 1).decode("utf-8"), path.name), None
    except InvalidFile as error:
        return None, blocking_finding("summary", f"{path.name}: {error}; {command} must write it to AUTOLAB_TRIAL_DIR")
    except (RecordError, UnicodeDecodeError) as error:
        return None, blocking_finding("summary", str(error))


_SIGNS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def _python_version(policy: VerifierPolicy, ground: CheckInputs) -> Finding | None:
    """Compare the trials' interpreter with `>=3.11,<3.14`, as far as each version in it is given."""
    wanted = policy.python_versions
    if wanted is None:
        return None
    tests = [re.fullmatch(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})\s*", part) for part in wanted.split(",")]
    argv = [ground.python, "-I", "-c", "import sys; print(*sys.version_info[:3])"]
    folder = _fresh(ground.scratch, "python_version")
    log = ground.logs / "python_version.log"
    run = execute.run(argv, ground.folder, _environment(ground, folder), log, policy.time_limit_s, ground.boxed(folder))
    words = run.tail.split()
    if not run.ok or len(words) != 3:
        return blocking_finding("env_smoke", f"{ground.python}: does not say its version{_quoted(run.tail)}")
    have = [int(word) for word in words]
    for test in tests:
        if test is None:
            raise RecordError(f"{POLICY}: python_versions: {wanted!r} is not understood: write it like >=3.11,<3.14")
        bound = [int(part) for part in test[2].split(".")]
        if not _SIGNS[test[1]](have[: len(bound)], bound):
            found = ".".join(words)
            return blocking_finding(
                "env_smoke", f"{ground.python} is Python {found}, and {POLICY} wants {wanted}: make the venv anew"
            )
    return None


def _quoted(tail: str) -> str:
    return f"; its last lines:\n{tail}" if tail else "; it printed nothing"
