"""Named checks of what a researcher did, and the policy ladder that runs the lab's own programs.

Every check gives findings as values; it never raises for what a candidate did. What a person wrote
wrongly (a command in the policy, a placeholder in a prompt) raises one line. Nothing that a candidate
wrote is imported here: its tests, dry run and model summary run in processes of their own.

Not covered: a program that leaves its session on purpose outlives its check, and the network is open,
until the sandbox wraps `_spawn`, which is the only place where a program starts.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shlex
import signal
import stat
import subprocess
import threading
import time
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from autolab.errors import RecordError
from autolab.experiment import measured
from autolab.git import Change
from autolab.records.experiment import Design, Finding, Hypothesis, Manifest, MaxPairs, Summary, Trial
from autolab.records.lab import Config, Stage, VerifierPolicy
from autolab.records.outcomes import Outcome
from autolab.records.replies import DocsOutput

Check = Literal["pass", "skip", "fail"]
POLICY = VerifierPolicy.FILE
LOG_LIMIT = 1_000_000
"""Bytes of a check's output that its log keeps, the last lines aside."""
TAIL_LINES, TAIL_CHARACTERS, TAIL_BYTES = 20, 2_000, 8_192
SUMMARY_LIMIT = 1_000_000
VALUE_LIMIT = 20_000
"""Characters of one value that a prompt quotes."""


def blocking(check: str, message: str, file: str | None = None) -> Finding:
    return Finding(check=check, severity="blocking", message=message, file=file)


def advisory(check: str, message: str, file: str | None = None) -> Finding:
    return Finding(check=check, severity="advisory", message=message, file=file)


# --- who may change which file -----------------------------------------------------------------


@dataclass(frozen=True)
class Protected:
    """A path or pattern that a candidate may not change, its class and the way out."""

    pattern: str
    kind: str
    way_out: str


APPEND_ONLY = "*_journal.md"
_PERSON = "put the change back; only the person edits it"
_FROZEN = "put the change back; META_MODE=1 in the newest entry of human_journal.md unlocks it"
_ENGINE = "put the change back; the engine writes it in the lab's own checkout"
_CONTROL = "put the change back; it belongs to the lab, not to a candidate"
_PAPER = "put the change back; give the text in the answer of update_docs"


def protected(config: Config, *, unlocked: bool = False) -> list[Protected]:
    """What a candidate may not change (CONTRACTS §6), the strictest class first; `unlocked` opens FROZEN only."""
    files, evaluate = config.files, config.evaluate
    rules = [Protected(path, "control plane", _CONTROL) for path in (".autolab", "experiments", "5_worktrees")]
    rules += [Protected(path, "HUMAN", _PERSON) for path in files.human]
    if evaluate is not None:
        data = (evaluate.eval, evaluate.holdout)
        rules += [Protected(path, "evaluation data", _CONTROL) for path in data if path is not None]
    if not unlocked:
        frozen = (*files.frozen, *((evaluate.script,) if evaluate is not None else ()))
        rules += [Protected(path, "FROZEN", _FROZEN) for path in frozen]
    for path in files.global_:
        rules += [Protected(path, "GLOBAL", _ENGINE), Protected(_closed_parts(path), "GLOBAL", _ENGINE)]
    rules += [Protected(path, "paper target", _PAPER) for path in (*config.docs.paper_targets, config.docs.figures)]
    return rules


def path_policy(
    changes: Iterable[Change],
    config: Config,
    *,
    unlocked: bool = False,
    kept: Callable[[str], bool] | None = None,
) -> list[Finding]:
    """Blocking findings for every changed path that is not the candidate's to change.

    `kept(path)` says whether the old bytes of an APPEND-ONLY file are a suffix of its new ones; without
    it every change of such a file blocks. Names are compared without case and in one Unicode form, since
    `Eval.py` is `eval.py` on some file systems.
    """
    rules = protected(config, unlocked=unlocked)
    frozen = {_fold(path) for path in config.files.frozen} if unlocked else set()
    found = []
    for change in changes:
        problem = _unsafe(change) or _owned(change.path, rules) or _not_appended(change, kept, frozen)
        if problem is not None:
            found.append(blocking("paths", f"{_shown(change.path)}: {problem}", change.path))
    return found


def meta_mode(human_journal: str) -> bool:
    """True if the newest entry (from the first `## ` heading to the next) holds the exact line `META_MODE=1`."""
    inside = False
    for line in human_journal.removeprefix("\ufeff").split("\n"):
        if line.startswith("## "):
            if inside:
                return False
            inside = True
        elif inside and line.removesuffix("\r") == "META_MODE=1":
            return True
    return False


def _unsafe(change: Change) -> str | None:
    parts = change.path.replace("\\", "/").split("/")
    if change.path.startswith(("/", "\\")) or ".." in parts or re.match(r"^[A-Za-z]:", change.path):
        return "path leaves the lab; use a relative path without .."
    if any(_fold(part).startswith(".git") and part != ".gitkeep" for part in parts):
        return f"git's own file; {_CONTROL}"
    if change.new_mode == "120000":
        return "symbolic link; commit the file itself"
    if change.new_mode == "160000":
        return "submodule; commit the files themselves"
    return None


def _owned(path: str, rules: Sequence[Protected]) -> str | None:
    folded = _fold(path)
    for rule in rules:
        pattern = _fold(rule.pattern)
        if _covers(pattern, folded):
            alike = "" if _covers(rule.pattern.strip("/"), path) else f" (the same name as {rule.pattern} without case)"
            return f"{rule.kind}{alike}; {rule.way_out}"
        if pattern.startswith(folded + "/"):
            return f"takes the place of the folder of {rule.pattern} ({rule.kind}); {rule.way_out}"
    return None


def _not_appended(change: Change, kept: Callable[[str], bool] | None, frozen: Collection[str]) -> str | None:
    folded = _fold(change.path)
    if change.status == "A" or folded in frozen or not fnmatchcase(PurePosixPath(folded).name, APPEND_ONLY):
        return None
    if change.status != "D" and kept is not None and kept(change.path):
        return None
    return "APPEND-ONLY; put the old text back and add new entries above it"


def _covers(pattern: str, path: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(path, pattern) or any(fnmatchcase(str(up), pattern) for up in PurePosixPath(path).parents)
    return path == pattern or path.startswith(pattern + "/")


def _closed_parts(path: str) -> str:
    """The pattern of a journal's closed parts: `FINDINGS.md` -> `FINDINGS.[0-9]*.md`."""
    pure = PurePosixPath(path)
    return str(pure.with_name(f"{pure.stem}.[0-9]*{pure.suffix}"))


def _fold(path: str) -> str:
    folded = unicodedata.normalize("NFKC", str(PurePosixPath(path.strip("/")))).casefold()
    return unicodedata.normalize("NFKC", folded)


def _shown(path: str) -> str:
    return path if path.isprintable() else ascii(path)


# --- the ladder --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ladder:
    """What the ladder found: per check pass, skip or fail, the findings, and the model's summary."""

    checks: dict[str, Check]
    findings: tuple[Finding, ...]
    summary: Summary | None


@dataclass(frozen=True)
class Ground:
    """Where and with what the ladder's programs run.

    `folder`: read-only export of the candidate, the working folder. `python`: the trials' interpreter.
    `scratch`: writable, one folder a check (AUTOLAB_TRIAL_DIR). `logs`: `<check>.log`. `config`: the arm's
    resolved settings (AUTOLAB_CONFIG). `data`: the training data (AUTOLAB_DATA). `experiment`: the lab's
    `experiments/<ITERATION_ID>`, which an export does not hold.
    """

    folder: Path
    python: str
    iteration_id: str
    scratch: Path
    logs: Path
    config: Path | None = None
    data: Path | None = None
    experiment: Path | None = None


def ladder(policy: VerifierPolicy, ground: Ground) -> Ladder:
    """Run the policy's rungs: schema, env_smoke, tests, dry_run, summary.

    An exit code alone decides. A broken environment skips the rungs above it, whose failures would say
    nothing about the candidate. A policy that cannot be read as a command line raises RecordError.
    """
    checks: dict[str, Check] = {name: "skip" for name in ("tests", "dry_run", "env_smoke", "schema", "summary")}
    findings = _schema(ground)
    if ground.experiment is not None:
        checks["schema"] = "fail" if findings else "pass"
    if policy.require_env_smoke or policy.smoke_command or policy.python_versions:
        broken = _rung("env_smoke", policy.smoke_command or '{python} -c ""', policy, ground)
        broken = broken or _python_version(policy, ground)
        checks["env_smoke"] = "fail" if broken else "pass"
        if broken is not None:
            return Ladder(checks, (*findings, broken), None)
    for name, command, missing in _rungs(policy, ground.folder):
        found = missing if command is None else _rung(name, command, policy, ground)
        findings += [found] if found is not None else []
        checks[name] = "fail" if found is not None else "skip" if command is None else "pass"
    summary = None
    if policy.summary_command is not None:
        summary, found = _summary(policy.summary_command, policy, ground)
        findings += [found] if found is not None else []
        checks["summary"] = "fail" if found is not None else "pass"
    return Ladder(checks, tuple(findings), summary)


def _rungs(policy: VerifierPolicy, folder: Path) -> list[tuple[str, str | None, Finding | None]]:
    """Name, command (None: not to be run) and the finding if the policy requires what is missing."""
    tests, no_tests = policy.test_command, None
    if tests is not None and not has_tests(folder):
        tests = None
        no_tests = "tests are required and the candidate has none: add tests/test_*.py"
    elif tests is None:
        no_tests = f"tests are required and {POLICY} has no test_command: set it"
    no_dry_run = f"a dry run is required and {POLICY} has no dry_run_command: set it"
    return [
        ("tests", tests, blocking("tests", no_tests) if no_tests and policy.require_tests else None),
        ("dry_run", policy.dry_run_command, blocking("dry_run", no_dry_run) if policy.require_dry_run else None),
    ]


def has_tests(folder: Path) -> bool:
    """True if the export holds a file under `tests/` or `test/`, or a pytest file at its top."""
    for name in ("tests", "test"):
        if any(path.is_file() for path in (folder / name).glob("**/*")):
            return True
    return any(folder.glob("test_*.py")) or any(folder.glob("*_test.py"))


def _schema(ground: Ground) -> list[Finding]:
    """The iteration's own documents, read as the records that they must be."""
    if ground.experiment is None:
        return []
    found = []
    for name, read in (("design.yaml", Design.load), ("hypothesis.md", _load_hypothesis)):
        path = ground.experiment / name
        try:
            read(path)
        except RecordError as error:
            found.append(blocking("schema", str(error), f"experiments/{ground.iteration_id}/{name}"))
    return found


def _load_hypothesis(path: Path) -> Hypothesis:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{path.name}: not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name}: cannot be read: {error}") from None
    matter = re.match(r"---\r?\n(.*?\n)---\s*(?:\n|$)", text, re.DOTALL)
    if matter is None:
        raise RecordError(f"{path.name}: line 1: no front matter: begin with --- and end it with ---")
    return Hypothesis.from_text(matter[1], path.name)


_KEYS = {"env_smoke": "smoke_command", "tests": "test_command", "dry_run": "dry_run_command"}


def _rung(
    name: str, command: str, policy: VerifierPolicy, ground: Ground, folder: Path | None = None
) -> Finding | None:
    """None if the command ended with exit code 0, else the finding with its last lines."""
    argv, folder = _argv(name, command, ground), folder or _fresh(ground.scratch, name)
    ground.logs.mkdir(parents=True, exist_ok=True)
    run = _spawn(argv, ground.folder, _environment(ground, folder), ground.logs / f"{name}.log", policy.time_limit_s)
    if run.missing is not None:
        where = f"{_KEYS.get(name, 'summary_command')} in {POLICY}"
        where = f"python in {Config.FILE}" if argv[0] == ground.python else where
        return blocking(name, f"{_shown(argv[0])}: {run.missing}: install it or change {where}")
    if run.timed_out:
        limit = f"{policy.time_limit_s:g} s"
        return blocking(name, f"{command}: still running after {limit} and ended{_quoted(run.tail)}")
    if run.code != 0:
        how = f"ended with exit code {run.code}" if run.code > 0 else f"was killed by {_signal_name(-run.code)}"
        return blocking(name, f"{command}: {how}{_quoted(run.tail)}")
    return None


def _fresh(scratch: Path, name: str) -> Path:
    """A new folder `<name>`, or `<name>-2` … where an earlier, killed attempt left one: nothing of it counts."""
    scratch.mkdir(parents=True, exist_ok=True)
    folder, number = scratch / name, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = scratch / f"{name}-{number}"
        else:
            return folder


def _argv(name: str, command: str, ground: Ground) -> list[str]:
    """The command as arguments, with `{python}`, `<ITERATION_ID>` and the iteration's folder filled in.

    `./venv/bin/python` (seed 003, appendix D) stands for the trials' interpreter: an export has no venv.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise RecordError(f"{POLICY}: {name}: {command!r} is not a command line: {error}") from None
    if not words:
        raise RecordError(f"{POLICY}: {name}: the command is empty: write it or remove the key")
    if words[0] in ("./venv/bin/python", "venv/bin/python") and not (ground.folder / words[0]).exists():
        words[0] = "{python}"
    if ground.experiment is not None:
        words = [word.replace("experiments/<ITERATION_ID>", str(ground.experiment)) for word in words]
    return [word.replace("<ITERATION_ID>", ground.iteration_id).replace("{python}", ground.python) for word in words]


def _environment(ground: Ground, folder: Path) -> dict[str, str]:
    """The whole environment of a check: nothing of the person's but PATH."""
    values = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(ground.scratch),
        "TMPDIR": str(ground.scratch),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUTOLAB_TRIAL_DIR": str(folder),
        "AUTOLAB_SEED": "0",
    }
    if ground.config is not None:
        values["AUTOLAB_CONFIG"] = str(ground.config)
    if ground.data is not None:
        values["AUTOLAB_DATA"] = str(ground.data)
    return values


def _summary(command: str, policy: VerifierPolicy, ground: Ground) -> tuple[Summary | None, Finding | None]:
    path = _fresh(ground.scratch, "summary") / "summary.json"
    failed = _rung("summary", command, policy, ground, path.parent)
    if failed is not None:
        return None, failed
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return None, blocking(
            "summary", f"summary.json: {error.strerror}: {command} must write it to AUTOLAB_TRIAL_DIR"
        )
    with open(descriptor, "rb") as file:
        plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = file.read(SUMMARY_LIMIT + 1) if plain else b""
    if not plain or len(data) > SUMMARY_LIMIT:
        return None, blocking("summary", f"summary.json: must be a plain file of at most {SUMMARY_LIMIT} bytes")
    try:
        return Summary.from_text(data.decode("utf-8"), "summary.json"), None
    except (RecordError, UnicodeDecodeError) as error:
        return None, blocking("summary", str(error))


def _python_version(policy: VerifierPolicy, ground: Ground) -> Finding | None:
    """Compare the trials' interpreter with `>=3.11,<3.14` (>=, <=, >, <, ==, != and a dotted version)."""
    wanted = policy.python_versions
    if wanted is None:
        return None
    tests = [re.fullmatch(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})\s*", part) for part in wanted.split(",")]
    if not all(tests):
        raise RecordError(f"{POLICY}: python_versions: {wanted!r} is not understood: write it like >=3.11,<3.14")
    argv = [ground.python, "-I", "-c", "import sys; print(*sys.version_info[:3])"]
    environment = _environment(ground, ground.scratch)
    run = _spawn(argv, ground.folder, environment, ground.logs / "python_version.log", policy.time_limit_s)
    words = run.tail.split()
    if run.missing is not None or run.code != 0 or len(words) != 3:
        return blocking("env_smoke", f"{ground.python}: does not say its version{_quoted(run.tail)}")
    version = tuple(int(word) for word in words)
    for test in tests:
        if test is not None and not _holds(version, test[1], tuple(int(part) for part in test[2].split("."))):
            have = ".".join(words)
            return blocking(
                "env_smoke", f"{ground.python} is Python {have}, and {POLICY} wants {wanted}: make the venv anew"
            )
    return None


def _holds(version: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    have = version[: len(bound)]
    return {
        ">=": have >= bound,
        "<=": have <= bound,
        ">": have > bound,
        "<": have < bound,
        "==": have == bound,
        "!=": have != bound,
    }[sign]


@dataclass(frozen=True)
class _Run:
    code: int
    tail: str
    timed_out: bool = False
    missing: str | None = None


def _spawn(argv: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, limit_s: float) -> _Run:
    """Run one program in a session of its own, its output in `log`; its process group is dead at the end."""
    with log.open("wb") as sink:
        try:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError):
            return _Run(127, "", missing="program not found")
        except (PermissionError, OSError) as error:
            return _Run(126, "", missing=f"program cannot be started ({error.strerror})")
        output = _Output(sink)
        timed_out = _follow(process, output, limit_s)
        output.finish()
    return _Run(process.returncode, output.tail(), timed_out)


def _follow(process: subprocess.Popen[bytes], output: _Output, limit_s: float) -> bool:
    """Copy the output until the process ends or the limit is over (True); then kill its group and copy the rest."""
    ended, tell = os.pipe()

    def wait() -> None:
        process.wait()
        os.close(tell)

    waiter = threading.Thread(target=wait)
    waiter.start()
    deadline, running, more = time.monotonic() + limit_s, True, True
    assert process.stdout is not None
    with process.stdout as source, selectors.DefaultSelector() as ready:
        ready.register(source, selectors.EVENT_READ)
        ready.register(ended, selectors.EVENT_READ)
        try:
            while running and (events := ready.select(max(0.0, deadline - time.monotonic()))):
                running = all(key.fd != ended for key, _ in events)
                if more and any(key.fileobj is source for key, _ in events) and not output.take(source):
                    ready.unregister(source)
                    more = False
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody left; macOS: EPERM for zombies
                os.killpg(process.pid, signal.SIGKILL)
            waiter.join()
            ready.unregister(ended)
            os.close(ended)
        deadline = (
            time.monotonic() + 1.0
        )  # the pipe ends with its last writer; one that left the session is not awaited
        while more and time.monotonic() < deadline and ready.select(deadline - time.monotonic()):
            more = output.take(source)
    return running


class _Output:
    """Puts a pipe into a log: the first LOG_LIMIT bytes and, past them, the last TAIL_BYTES."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink, self._last, self.seen = sink, b"", 0

    def take(self, source: IO[bytes]) -> bool:
        """Copy what is there, waiting for it; False at the end."""
        block = os.read(source.fileno(), 65536)
        self._sink.write(block[: max(0, LOG_LIMIT - self.seen)])
        self.seen += len(block)
        self._last = (self._last + block)[-TAIL_BYTES:]
        return bool(block)

    def finish(self) -> None:
        left_out = self.seen - LOG_LIMIT
        if left_out > 0:
            note = f"\n[{left_out} bytes past {LOG_LIMIT} are left out; the last ones follow]\n"
            self._sink.write(note.encode() + self._last[-left_out:])

    def tail(self) -> str:
        """The last lines, at most TAIL_LINES and TAIL_CHARACTERS."""
        text = self._last.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").rstrip()
        text = "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)
        return "\n".join(text.split("\n")[-TAIL_LINES:])[-TAIL_CHARACTERS:]


def _quoted(tail: str) -> str:
    return f"; its last lines:\n{tail}" if tail else "; it printed nothing"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- what an answer says ------------------------------------------------------------------------


def design_checks(
    design: Design,
    hypothesis: Hypothesis,
    config: Config,
    exists: Callable[[str], bool],
    *,
    planned: Collection[str] = (),
    trials_spent: int = 0,
) -> list[Finding]:
    """Findings on `design.yaml`. `exists(path)` asks the base commit; a candidate will write the `planned` files."""
    found = []
    for role, arms in (("baseline", design.baselines), ("variant", design.variants)):
        if not arms:
            found.append(blocking("design", f"{role}s: none; name at least one {role}", "design.yaml"))
    files = _entry_files(design)
    if files and not any(exists(path) or path in planned for path in files):
        found.append(blocking("design", f"entrypoint: {' or '.join(files)} is not in the base commit", "design.yaml"))
    return found + _metric_findings(design, hypothesis, config) + _trial_budget(design, config, trials_spent)


def _entry_files(design: Design) -> tuple[str, ...]:
    """The files of which one must exist; empty where the command names no file of the lab."""
    entry = design.entrypoint
    if entry.module is not None:
        return _module_files(entry.module)
    try:
        words = shlex.split(entry.command or "")
    except ValueError:
        return (entry.command or "",)
    if "-m" in words[1:-1]:
        return _module_files(words[words.index("-m", 1) + 1])
    scripts = [word for word in words[1:] if word.endswith((".py", ".sh"))]
    if words and words[0].startswith("./"):
        scripts.insert(0, words[0])
    return (scripts[0].removeprefix("./"),) if scripts else ()


def _module_files(module: str) -> tuple[str, ...]:
    path = module.replace(".", "/")
    return (f"{path}.py", f"{path}/__init__.py", f"{path}/__main__.py")


def _metric_findings(design: Design, hypothesis: Hypothesis, config: Config) -> list[Finding]:
    known = {config.metric.primary, *config.metric.report}
    names = ", ".join(sorted(known))
    report = blocking if config.evaluate is not None else advisory
    found = []
    if hypothesis.metric != design.metrics.primary:
        message = f"metrics.primary: {design.metrics.primary} is not the hypothesis's metric, {hypothesis.metric}"
        found.append(blocking("design", message, "design.yaml"))
    for field, metric in [("metrics.primary", design.metrics.primary)] + [
        (f"criteria.{index}.metric", criterion.metric) for index, criterion in enumerate(design.criteria)
    ]:
        if metric not in known:
            found.append(report("design", f"{field}: {metric} is not measured here; known: {names}", "design.yaml"))
    for metric in design.metrics.secondary:
        if metric not in known:
            message = f"metrics.secondary: {metric} is not among those that config.yaml names ({names})"
            found.append(advisory("design", message, "design.yaml"))
    return found


def _trial_budget(design: Design, config: Config, spent: int) -> list[Finding]:
    if config.budget.trials is None:
        return []
    seeds, rule = design.reproducibility.seeds, design.test or config.test
    pairs = seeds.max_pairs if isinstance(seeds, MaxPairs) else len(seeds)
    needed = pairs * (len(design.baselines) + len(design.variants))
    left = config.budget.trials - spent
    if needed <= left:
        return []
    message = f"reproducibility.seeds: up to {needed} trials, and {left} are left of budget.trials in config.yaml"
    may_stop_early = isinstance(seeds, MaxPairs) and rule.rule != "fixed"
    return [(advisory if may_stop_early and left > 0 else blocking)("design", message, "design.yaml")]


_SHARES = {"accuracy", "acc", "f1", "precision", "recall", "auc", "auroc", "iou", "top1", "top5"}
_POSITIVE = {"loss", "nll", "mse", "rmse", "mae", "perplexity", "bpb"}


def results_sanity(manifest: Manifest, design: Design) -> list[Finding]:
    """Findings on a run's trials: baseline and seeds present, paired and different; values in their natural range."""
    arms = {arm.name: _prefix(manifest.trials, arm.name) for arm in (*design.baselines, *design.variants)}
    found = [
        blocking("results", f"baseline {arm.name}: no completed trial, so nothing is compared")
        for arm in design.baselines
        if not arms[arm.name]
    ]
    found += [finding for name, trials in arms.items() for finding in _seed_findings(name, trials, manifest, design)]
    by_index: dict[int, set[int]] = {}
    for trial in (trial for trials in arms.values() for trial in trials):
        by_index.setdefault(trial.index, set()).add(trial.seed)
    for index in sorted(index for index, seeds in by_index.items() if len(seeds) > 1):
        found.append(blocking("results", f"pair {index}: the arms ran with different seeds, so they are not paired"))
    return found + [finding for trials in arms.values() for finding in _range_findings(trials, manifest, design)]


def _prefix(trials: Iterable[Trial], arm: str) -> list[Trial]:
    """The arm's longest unbroken row of completed trials, from index 0."""
    done = {trial.index: trial for trial in trials if trial.arm == arm and trial.outcome is Outcome.COMPLETED}
    length = next(index for index in range(len(done) + 1) if index not in done)
    return [done[index] for index in range(length)]


def _seed_findings(name: str, trials: Sequence[Trial], manifest: Manifest, design: Design) -> list[Finding]:
    declared, seeds = design.reproducibility.seeds, [trial.seed for trial in trials]
    found = []
    if isinstance(declared, tuple) and manifest.status == "completed" and seeds != list(declared):
        missing = [str(seed) for seed in declared if seed not in seeds]
        what = f"declared seeds without a completed trial: {', '.join(missing)}" if missing else "seeds out of order"
        found.append(blocking("results", f"arm {name}: {what}"))
    if len(set(seeds)) != len(seeds):
        found.append(blocking("results", f"arm {name}: a seed is counted twice"))
    if len(trials) < 2:
        return found
    hashes = {trial.predictions_sha256 for trial in trials}
    scores = {tuple(sorted(measured(trial, manifest.self_reported).items())) for trial in trials}
    if len(hashes) == 1 and None not in hashes:
        message = (
            f"arm {name}: deterministic: {len(trials)} seeds gave the same predictions, so seeds replicate nothing"
        )
        found.append(advisory("results", message))
    elif len(scores) == 1:
        message = f"arm {name}: {len(trials)} seeds gave the same scores to the last digit; is the seed used?"
        found.append(advisory("results", message))
    return found


def _range_findings(trials: Sequence[Trial], manifest: Manifest, design: Design) -> list[Finding]:
    primary, found = design.metrics.primary, []
    for trial in trials:
        values = measured(trial, manifest.self_reported)
        if primary not in values:
            found.append(blocking("results", f"trial {trial.trial}: completed without the primary metric {primary}"))
        for metric, value in sorted(values.items()):
            words = set(metric.lower().split("_"))
            if words & _SHARES and not 0 <= value <= 1:
                found.append(advisory("results", f"trial {trial.trial}: {metric} = {value:g} lies outside 0 to 1"))
            elif words & _POSITIVE and value < 0:
                found.append(advisory("results", f"trial {trial.trial}: {metric} = {value:g} is below 0"))
    return found


def docs_answer(docs: DocsOutput, targets: Collection[str]) -> list[Finding]:
    """Findings on an answer of update_docs, before anything is written: targets known, text or a rationale there."""
    found = [
        blocking(
            "docs", f"{_shown(update.path)}: not a paper target; known: {', '.join(targets) or 'none'}", update.path
        )
        for update in docs.paper
        if update.path not in targets
    ]
    found += [
        blocking("docs", f"{update.path}: the text is empty", update.path)
        for update in docs.paper
        if not update.text.strip()
    ]
    if targets and not docs.paper and not (docs.no_changes or "").strip():
        found.append(blocking("docs", "update a paper target or give no_changes, the reason why none needs a change"))
    return found


def docs_targets(
    before: Mapping[str, str], after: Mapping[str, str], no_changes: str | None, targets: Collection[str]
) -> list[Finding]:
    """Path -> sha256 before and after: a mapped target changed, or a written rationale; none of them vanished."""
    found = [
        blocking("docs", f"{path}: a paper target is gone; put it back", path)
        for path in targets
        if path in before and path not in after
    ]
    changed = any(path in after and before.get(path) != after[path] for path in targets)
    if targets and not changed and not (no_changes or "").strip():
        message = f"no paper target changed ({', '.join(targets)}) and no reason is written: give no_changes"
        found.append(blocking("docs", message))
    return found


# --- prompts ------------------------------------------------------------------------------------

PLACEHOLDERS: dict[Stage, frozenset[str]] = {
    stage: frozenset(("iteration_id", "goal", "metric", "state_json", *names.split()))
    for stage, names in {
        Stage.HYPOTHESIS: "history",
        Stage.DESIGN: "hypothesis_md config history",
        Stage.IMPLEMENTATION: "hypothesis_md design_yaml review_feedback verifier_errors",
        Stage.IMPLEMENTATION_REVIEW: "design_yaml diff_summary verifier_outputs dry_run_output",
        Stage.UPDATE_DOCS: "summary_md results_yaml paper_targets",
        Stage.DECIDE_REPEAT: "summary_md target history",
    }.items()
}
"""What a prompt of each stage may quote."""

_PROMPT_NAMES = {
    "docs": Stage.UPDATE_DOCS,
    "decide": Stage.DECIDE_REPEAT,
    **{stage.value: stage for stage in PLACEHOLDERS},
}
_INLINE = ("iteration_id", "metric", "target")
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def prompt_stage(name: str) -> Stage | None:
    """The stage of a prompt's file name: `stage_design.md`, `design.md`, `stage_docs.md`; None if it names none."""
    return _PROMPT_NAMES.get(name.removesuffix(".md").removeprefix("stage_"))


def prompts(folder: Path) -> list[Finding]:
    """Findings on every `*.md` of `.autolab/prompts`: a stage that exists, placeholders that it knows."""
    found = []
    for path in sorted(folder.glob("*.md")):
        shown, stage = f".autolab/prompts/{path.name}", prompt_stage(path.name)
        if stage is None:
            names = ", ".join(f"stage_{known}.md" for known in PLACEHOLDERS)
            found.append(blocking("prompts", f"{shown}: names no stage; known: {names}", shown))
            continue
        for name in sorted(set(_PLACEHOLDER.findall(path.read_text(encoding="utf-8", errors="replace")))):
            if name not in PLACEHOLDERS[stage]:
                known_names = ", ".join(sorted(PLACEHOLDERS[stage]))
                message = f"{shown}: {{{{{name}}}}} is not known in {stage}; known: {known_names}"
                found.append(blocking("prompts", message, shown))
    return found


def render(text: str, values: Mapping[str, str], *, limit: int = VALUE_LIMIT) -> str:
    """Fill the placeholders. A value is fenced as data that nothing in it can close, and capped at `limit` characters.

    RecordError on a placeholder that no stage knows, or that has no value. Values are not searched for
    placeholders again.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if not any(name in known for known in PLACEHOLDERS.values()):
            raise RecordError(f"prompt: {{{{{name}}}}} is not a known placeholder; see `autolab verify`")
        if name not in values:
            raise RecordError(f"prompt: {{{{{name}}}}} has no value in this stage: remove it from the prompt")
        return _as_data(name, values[name], limit)

    return _PLACEHOLDER.sub(fill, text)


def _as_data(name: str, value: str, limit: int) -> str:
    if name in _INLINE and len(value) <= 200 and value.isprintable():
        return value
    if len(value) > limit:
        head, tail = limit * 3 // 4, limit - limit * 3 // 4
        value = f"{value[:head]}\n[... {len(value) - limit} characters left out ...]\n{value[-tail:]}"
    longest = max((len(run) for run in re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"\n{fence}data {name}\n{value.rstrip()}\n{fence}\n"
