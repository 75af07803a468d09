"""Public repositories as a new user would adopt them: init until ready, calibration, a loop of the built-in researcher.

    python benchmarks/adopt/run.py --repos FOLDER [--only NAME ...] [--python FILE] [--datasets FOLDER] [--work FOLDER]

FOLDER holds checkouts, which you bring: `git clone` each address of repositories.yaml under the name that stands there.
They are copied to `--work` first, so no checkout changes. Each entry's `prepare` is what its own README asks for; then
`init` are the command lines of `autolab init --from-existing`, tried in turn until one ends ready. `ideas` iterations
follow in mode `each`, within `pairs` and `seconds` a training. Nothing is downloaded.

Each result is kept in `--work`; the table that is printed has all of them. Exit code 1 if an entry that has to be ready
is not. `--table` takes entries of your own.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
LONGEST_REASON = 160


@dataclass(frozen=True)
class Planted:
    """What compare.py asks of a repository.

    `flags`: beside the training command. `gain`: [FILE, text, text in its place] of a version that trains better.
    `comment`: the file that gets one. `base`: as `gain`, committed before, where the repository has nothing to gain.
    """

    gain: list[str]
    comment: str
    flags: str = ""
    base: list[str] | None = None


@dataclass(frozen=True)
class Entry:
    """A repository with its tiny settings. `ready`: whether it has to end ready on a machine without a GPU."""

    name: str
    folder: str
    source: str
    init: tuple[str, ...]
    prepare: tuple[str, ...] = ()
    ready: bool = True
    ideas: int = 0
    pairs: int = 24
    seconds: int = 3600
    note: str = ""
    compare: Planted | None = None

    @classmethod
    def from_value(cls, name: str, value: dict[str, Any]) -> Entry:
        lists = {key: tuple(value.get(key, ())) for key in ("init", "prepare")}
        planted = Planted(**value["compare"]) if "compare" in value else None
        return cls(name, **(value | lists | {"compare": planted}))


@dataclass
class Result:
    """What became of an entry. `ideas`: title and outcome of each iteration; `seconds`: of all commands."""

    name: str
    source: str
    commit: str = ""
    commands: int = 0
    ready: bool = False
    reason: str = ""
    calibrated: str = ""
    budget: str = ""
    ideas: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0


class Clone:
    """A clone of an entry's checkout in the folder of the work, with a log of the commands that ran in it."""

    def __init__(self, entry: Entry, given: argparse.Namespace) -> None:
        self.folder = given.work / entry.name
        self.log = given.work / f"{entry.name}.log"
        self._values = {
            "python": str(given.python),
            "datasets": str(given.datasets),
            "here": str(HERE),
            "work": str(given.work),
        }
        self._checkout = given.repos / entry.folder
        self._patience = given.longest

    def make(self) -> None:
        self.log.write_text("")
        shutil.rmtree(self.folder, ignore_errors=True)
        # A clone has the commit alone: what was built or downloaded in the checkout would hide what is missing.
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(self._checkout), str(self.folder)], check=True)

    def filled(self, line: str) -> list[str]:
        """The words of a line of repositories.yaml."""
        for name, value in self._values.items():
            line = line.replace(f"<{name}>", value)
        return shlex.split(line)

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                words, cwd=self.folder, capture_output=True, text=True, check=False, timeout=self._patience
            )
        except subprocess.TimeoutExpired as error:
            output = error.stdout.decode() if isinstance(error.stdout, bytes) else ""
            done = subprocess.CompletedProcess(words, 124, output, f"ended after {self._patience} s")
        with self.log.open("a") as log:
            log.write(f"$ {shlex.join(words)}\n{done.stdout}{done.stderr}[exit {done.returncode}]\n")
        return done

    def autolab(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "-m", "autolab", *words])

    def output(self, *words: str) -> str:
        return self.run(list(words)).stdout.strip()

    def prepare(self, lines: tuple[str, ...]) -> str:
        """Run what the README asks for; the last line of what failed, empty if nothing did."""
        for line in lines:
            done = self.run(self.filled(line))
            if done.returncode:
                return f"prepare: {last_line_of(done)}"
        return ""


class Adoption:
    """One entry in its copy of the checkout."""

    def __init__(self, entry: Entry, given: argparse.Namespace) -> None:
        self._entry = entry
        self._clone = Clone(entry, given)

    def run(self) -> Result:
        entry = self._entry
        result = Result(entry.name, entry.source)
        begin = time.monotonic()
        self._clone.make()
        result.commit = self._clone.output("git", "rev-parse", "--short", "HEAD")
        result.reason = self._clone.prepare(entry.prepare)
        if result.reason:
            return result
        self._adopt(result)
        if result.ready:
            self._search(result)
        result.seconds = round(time.monotonic() - begin, 1)
        return result

    def _adopt(self, result: Result) -> None:
        for line in self._entry.init:
            result.commands += 1
            words = self._clone.filled(line)
            command = words[1:] if words[0] == "autolab" else ["init", "--from-existing", *words]
            done = self._clone.autolab(*command)
            result.ready = done.returncode == 0 and (self._clone.folder / ".autolab" / "config.yaml").exists()
            missing = [one.strip() for one in done.stdout.split("\n") if one.startswith("  missing:")]
            result.reason = "" if result.ready else "; ".join(missing) or last_line_of(done)

    def _search(self, result: Result) -> None:
        entry = self._entry
        done = self._clone.autolab("calibrate", "--plain")
        result.calibrated = "passed" if done.returncode == 0 else last_line_of(done)
        if done.returncode or not entry.ideas:
            return
        self._set_budget()
        result.budget = f"{entry.pairs} pairs, {entry.seconds} s a training"
        done = self._clone.autolab("loop", "--plain", "--max-iterations", str(entry.ideas))
        result.ideas = _ideas(self._clone.folder)
        if done.returncode:
            result.reason = last_line_of(done)

    def _set_budget(self) -> None:
        """What an idea may cost. Each of them is tested to its end, so that it has an outcome."""
        path = self._clone.folder / ".autolab" / "config.yaml"
        text = path.read_text()
        for key, value in (("max_pairs", self._entry.pairs), ("confirm_pairs", self._entry.pairs)):
            text = re.sub(rf"\b{key}: \d+", f"{key}: {value}", text)
        text = re.sub(r"(?m)^test: \{", "test: {mode: each, ", text)
        path.write_text(re.sub(r"\btime_limit_s: \d+", f"time_limit_s: {self._entry.seconds}", text))


def last_line_of(done: subprocess.CompletedProcess[str]) -> str:
    return last_line(done.stderr or done.stdout) or f"exit code {done.returncode}"


def last_line(text: str) -> str:
    """The last line of an output that holds something; empty if none does."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines[-1].removeprefix("autolab: ") if lines else ""


def _ideas(lab: Path) -> list[tuple[str, str]]:
    """Title and outcome of each iteration's idea, from its results.yaml, in the order of the iterations."""
    ideas = []
    for path in sorted(lab.glob("experiments/*/results.yaml")):
        results = yaml.safe_load(path.read_text())
        ideas.append((_titles(lab).get(results["iteration_id"], "?"), _outcome(results)))
    return ideas


def _outcome(results: dict[str, Any]) -> str:
    """What became of an idea, and the pairs that the search took for it: `kept (5 pairs)`."""
    assessment, confirmation = results["assessment"], results.get("confirmation")
    word = assessment["reason"] or assessment["verdict"] or results["status"]
    if confirmation:
        word = confirmation["outcome"]
    pairs = [str(one["pairs"]) for one in assessment["comparisons"]]
    return f"{word.replace('_', ' ')} ({' + '.join(pairs) or 'no'} pairs)"


def _titles(lab: Path) -> dict[str, str]:
    """The title of each iteration's idea, from results.tsv."""
    titles = {}
    with (lab / "results.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            # A note may stand before the title.
            match = re.search(r"([^:]+ -> [^:)]+\))", row["description"])
            titles[row["iteration"]] = match[1].strip() if match else row["description"]
    return titles


# the table


def table(results: list[Result]) -> str:
    lines = [
        "| repository | commands | result | calibration | ideas of the built-in researcher | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in results:
        outcome = "ready" if one.ready else "not ready"
        if one.reason:
            outcome += f": {_cell(one.reason)}"
        ideas = "; ".join(f"{_cell(title)}: *{verdict}*" for title, verdict in one.ideas) or "-"
        if one.ideas:
            ideas += f" ({one.budget})"
        cells = (
            f"{one.name} ({one.source.removeprefix('https://github.com/')} {one.commit})",
            str(one.commands),
            outcome,
            _cell(one.calibrated) or "-",
            ideas,
            f"{one.seconds:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    plain = " ".join(text.split()).replace("|", "\\|")
    return plain if len(plain) <= LONGEST_REASON else f"{plain[:LONGEST_REASON]} …"


def stored(work: Path, entries: list[Entry]) -> list[Result]:
    """The results that lie in the folder, in the order of the entries."""
    results = []
    for entry in entries:
        path = work / f"{entry.name}.json"
        if path.exists():
            value = json.loads(path.read_text())
            value["ideas"] = [tuple(one) for one in value["ideas"]]
            results.append(Result(**value))
    return results


def read_entries(path: Path) -> list[Entry]:
    return [Entry.from_value(name, value) for name, value in yaml.safe_load(path.read_text()).items()]


def arguments(description: str, words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repos", type=Path, required=True, help="folder of the checkouts")
    parser.add_argument("--only", nargs="*", help="names of entries")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="Python with torch and the like")
    parser.add_argument(
        "--datasets", type=Path, default=Path("datasets"), help="holds tinyshakespeare.txt and the like"
    )
    parser.add_argument("--work", type=Path, default=Path("adopted"), help="where copies and results are kept")
    parser.add_argument("--table", type=Path, default=HERE / "repositories.yaml", help="the entries")
    parser.add_argument("--longest", type=int, default=1800, help="seconds that one command may take")
    given = parser.parse_args(words)
    for name in ("repos", "datasets", "work", "table"):
        setattr(given, name, getattr(given, name).resolve())
    given.python = given.python.absolute()
    given.work.mkdir(parents=True, exist_ok=True)
    return given


def chosen_entries(entries: list[Entry], given: argparse.Namespace) -> Iterator[Entry]:
    """Those of `--only` whose checkout is there; of the others it is said."""
    for entry in entries:
        if given.only is not None and entry.name not in given.only:
            continue
        if (given.repos / entry.folder).is_dir():
            yield entry
        else:
            print(f"{entry.name}: {given.repos / entry.folder} is not there; git clone {entry.source}", file=sys.stderr)


def main(words: list[str] | None = None) -> int:
    given = arguments(__doc__ or "", words)
    entries = read_entries(given.table)
    for entry in chosen_entries(entries, given):
        result = Adoption(entry, given).run()
        (given.work / f"{entry.name}.json").write_text(json.dumps(asdict(result), indent=1))
        print(f"{entry.name}: {'ready' if result.ready else 'not ready'} {result.reason}", file=sys.stderr)
    results = stored(given.work, entries)
    print(table(results))
    has_to = {entry.name for entry in entries if entry.ready}
    return 1 if any(one.name in has_to and not one.ready for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
