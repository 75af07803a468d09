"""Plants known bugs, one at a time, in a copy of the repository, and says which of them the tests catch.

    python scripts/plant_bugs.py [--only NAME]... [--jobs N] [--check]

`tests/planted/bugs.yaml` has a bug for each guard of the product, with one to three quick tests. A bug *bites* if every
test listed with it fails. The exit code is 0 only if all bugs bite and all listed tests pass without any bug.

`--check` runs no test: it ends with 1 and names each entry that no longer fits the sources or the tests. Nothing in the
repository is changed: the copies lie in a temporary folder, and their `src` comes first on the path of Python.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
LIST = Path("tests/planted/bugs.yaml")
SOURCES = Path("src/autolab")
LIMIT_S = 180.0
"""Seconds after which a run of pytest is ended. A bug whose tests hang is not caught: somebody would have to notice."""
NOT_COPIED = ("venv", "demo-lab", "dist", "build", "__pycache__", ".git", ".*_cache", ".hypothesis")
"""What stays behind where git does not say which files are the repository's."""


@dataclass(frozen=True)
class Bug:
    """`old` is replaced by `new` in `file`, a path below src/autolab; `guard` is what the product promises."""

    name: str
    guard: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted_in(self, source: str) -> str:
        return source.replace(self.old, self.new)


@dataclass(frozen=True)
class Report:
    """What pytest reported: the results of each node id, the seconds it took, its last lines, whether it was ended."""

    results: Mapping[str, str]
    seconds: float
    tail: str
    timed_out: bool

    def has(self, result: str, test: str) -> bool:
        """Whether a case of `test` (a node id, with or without parameters) had this result."""
        return any(found == result and _is_case(node, test) for node, found in self.results.items())

    def passes(self, test: str) -> bool:
        """Whether a case of `test` passed and none failed; a skipped test does not pass."""
        return self.has("PASSED", test) and not self.has("FAILED", test) and not self.has("ERROR", test)


def _is_case(node: str, test: str) -> bool:
    return node == test or node.startswith(f"{test}[")


# The list


def load(path: Path) -> list[Bug]:
    """The bugs of a list; SystemExit names an entry that has other keys than it must have."""
    names = {field.name for field in fields(Bug)}
    bugs = []
    for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), 1):
        if not isinstance(entry, dict) or entry.keys() != names:
            raise SystemExit(f"{path}: entry {number}: must have the keys {', '.join(sorted(names))}")
        bugs.append(Bug(**{**entry, "tests": tuple(entry["tests"])}))
    return bugs


def problems(bugs: Sequence[Bug], root: Path) -> list[str]:
    """One line for each reason why a bug of the list cannot be planted in the tree at `root`, or not be tested."""
    names = [bug.name for bug in bugs]
    found = [f"{name}: the name is there twice" for name in sorted({name for name in names if names.count(name) > 1})]
    for bug in bugs:
        found += [f"{bug.name}: {problem}" for problem in _problems(bug, root)]
    return found


def _problems(bug: Bug, root: Path) -> Iterator[str]:
    path = root / SOURCES / bug.file
    if not path.is_file():
        yield f"file: there is no {SOURCES / bug.file}"
        return
    source = path.read_text(encoding="utf-8")
    if source.count(bug.old) != 1:
        yield f"old: found {source.count(bug.old)} times in {SOURCES / bug.file}, not once"
    elif bug.planted_in(source) == source:
        yield "new: is the same as old"
    else:
        try:
            compile(bug.planted_in(source), bug.file, "exec")
        except SyntaxError as error:
            yield f"new: {SOURCES / bug.file} with it is not Python: {error}"
    if not 1 <= len(bug.tests) <= 3:
        yield f"tests: {len(bug.tests)} are listed; list one to three"
    for test in bug.tests:
        file, _, name = test.partition("::")
        function = name.rpartition("::")[2].partition("[")[0]
        if not (root / file).is_file():
            yield f"tests: there is no {file}"
        elif not re.search(
            rf"^\s*def {re.escape(function)}\(", (root / file).read_text(encoding="utf-8"), re.MULTILINE
        ):
            yield f"tests: {file} has no {function}"


# A copy of the repository


@dataclass(frozen=True)
class Copy:
    """A copy of the repository in `folder`; `temporary` is where its tests put their files."""

    folder: Path
    temporary: Path

    @property
    def environment(self) -> dict[str, str]:
        """Ours, with the copy's sources first on the path, and without what is meant for another run of pytest."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return kept | {"PYTHONPATH": str(self.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}

    def require_own_sources(self) -> None:
        """SystemExit where Python would import another autolab than the copy's."""
        command = [sys.executable, "-c", "import autolab; print(autolab.__file__)"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        if not Path(done.stdout.strip()).is_relative_to(self.folder):
            raise SystemExit(f"plant_bugs: Python imports {done.stdout.strip()}, not the copy in {self.folder}")

    @contextmanager
    def planted(self, bug: Bug) -> Iterator[None]:
        """The copy with the bug in it."""
        path = self.folder / SOURCES / bug.file
        source = path.read_text(encoding="utf-8")
        try:
            self._write(path, bug.planted_in(source))
            yield
        finally:
            self._write(path, source)

    def _write(self, path: Path, source: str) -> None:
        path.write_text(source, encoding="utf-8")
        # A program that was started without our environment may have left byte code of what stood there before.
        for cache in (self.folder / "src").rglob("__pycache__"):
            shutil.rmtree(cache)

    def run(self, tests: Sequence[str], workers: int = 1) -> Report:
        """Run these tests, on several `workers` if there are more than one."""
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-rpfE", "-p", "no:cacheprovider"]
        command += ["--basetemp", str(self.temporary)]
        command += ["-n", str(workers), "--dist", "worksteal"] if workers > 1 else []
        begun = time.monotonic()
        process = subprocess.Popen(
            [*command, *tests],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timed_out = False
        try:
            output, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        lines = output.decode("utf-8", errors="replace").splitlines()
        matches = [match for line in lines if (match := re.match(r"(PASSED|FAILED|ERROR) (.+?)(?: - .*)?$", line))]
        results = {match[2]: match[1] for match in matches}
        return Report(results, time.monotonic() - begun, "\n".join(lines[-5:]), timed_out)


@contextmanager
def copies(root: Path, count: int) -> Iterator[list[Copy]]:
    """So many copies of the tree at `root` in a temporary folder, which is removed at the end."""
    place = Path(tempfile.mkdtemp(prefix="autolab-planted-"))
    try:
        made = [Copy(place / f"copy{number}", place / f"tmp{number}") for number in range(count)]
        for copy in made:
            _copy_tree(root, copy.folder)
            copy.require_own_sources()
        yield made
    finally:
        # Tests leave folders without rights and deeper than shutil.rmtree goes.
        subprocess.run(["chmod", "-R", "u+rwX", str(place)], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["rm", "-rf", str(place)], check=False)


def _copy_tree(root: Path, folder: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=False)
    if listed.returncode != 0:
        shutil.copytree(root, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
        return
    for name in map(os.fsdecode, listed.stdout.split(b"\0")):
        if name and os.path.lexists(root / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)


# The run


def without_bugs(copy: Copy, bugs: Sequence[Bug], workers: int) -> list[str]:
    """The listed tests that do not pass without a bug; says so."""
    tests = sorted({test for bug in bugs for test in bug.tests})
    run = copy.run(tests, workers)
    failing = [test for test in tests if not run.passes(test)]
    print(
        f"{'passed' if not failing else 'FAILED':<8}without a bug: {len(tests)} tests, {run.seconds:.1f} s", flush=True
    )
    for test in failing:
        print(f"        does not pass: {test}", flush=True)
    if failing and not run.results:
        print(run.tail, flush=True)
    return failing


def bites(copy: Copy, bug: Bug) -> bool:
    """Whether every test of the bug fails with it; says so."""
    with copy.planted(bug):
        run = copy.run(bug.tests)
    blind = [test for test in bug.tests if not run.has("FAILED", test)]
    report = [f"{'MISSED' if blind else 'bites':<8}{bug.name:<32} {run.seconds:6.1f} s"]
    report += [f"        does not fail: {test}" for test in blind]
    if blind and run.timed_out:
        report.append(f"        ended after {LIMIT_S:g} s")
    elif blind and not run.results:
        report += [f"        {line}" for line in run.tail.split("\n")]
    print("\n".join(report), flush=True)
    return not blind


def plant_all(root: Path, bugs: Sequence[Bug], jobs: int) -> bool:
    """Whether all listed tests pass without a bug and every bug bites."""
    with copies(root, jobs) as made, ThreadPoolExecutor(jobs) as pool:
        failing = without_bugs(made[0], bugs, jobs)
        free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for copy in made:
            free.put(copy)

        def one(bug: Bug) -> bool:
            copy = free.get()
            try:
                return bites(copy, bug)
            finally:
                free.put(copy)

        caught = [future.result() for future in as_completed([pool.submit(one, bug) for bug in bugs])]
    print(f"{caught.count(True)} of {len(bugs)} bugs bite")
    return all(caught) and not failing


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="plant this bug; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="bugs that are tried side by side (default: 2)")
    parser.add_argument("--check", action="store_true", help="run no test: only hold the list against the tree")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs: must be at least 1")
    bugs = load(ROOT / LIST)
    wrong = problems(bugs, ROOT)
    for problem in wrong:
        print(f"{LIST}: {problem}", file=sys.stderr)
    if wrong:
        return 1
    unknown = set(options.only) - {bug.name for bug in bugs}
    if unknown:
        parser.error(f"--only: no bug is called {', '.join(sorted(unknown))}")
    if options.check:
        print(f"{len(bugs)} bugs can be planted")
        return 0
    chosen = [bug for bug in bugs if bug.name in options.only or not options.only]
    begun = time.monotonic()
    fine = plant_all(ROOT, chosen, options.jobs)
    print(f"{time.monotonic() - begun:.0f} s")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
