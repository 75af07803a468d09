"""`autolab compare` in public repositories, as someone with a patch would call it: a gain, a comment, the gain again.

    python benchmarks/adopt/compare.py --repos FOLDER [--only NAME ...] [--python FILE] [--datasets FOLDER]
        [--work FOLDER]

The folders and flags are those of run.py, and so are the clones and what is prepared in them. `compare` of
repositories.yaml has what is planted: a gain and a comment, each a patch that lies outside of the clone. Three commands
follow: the first names the training command and has to answer *better* (exit code 0), the second has to answer
*no gain* (5), the third is the first once more and has to give its answer without a training. After each of them every
file of the clone has its bytes, and git its status, index, branches and stashes. Nothing is downloaded.

Each result is kept in `--work`; the table that is printed has all of them. Exit code 1 if one is not as it has to be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from run import Clone, Entry, Planted, arguments, chosen_entries, last_line, read_entries

BETTER, NO_GAIN = 0, 5
ANSWERS = ("better", "no gain", "undecided", "worse")
LONGEST_COMMAND = 200
AUTHOR = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org")


@dataclass
class Compared:
    """One repository. `flags`: of the first command. `first_number`: seconds until the first trial was over."""

    name: str
    source: str
    commit: str = ""
    flags: str = ""
    change: str = ""
    gain: str = ""
    comment: str = ""
    first_number: float | None = None
    gain_seconds: float = 0.0
    comment_seconds: float = 0.0
    again_seconds: float = 0.0
    problem: str = "not finished"


@dataclass(frozen=True)
class Ended:
    """A command that is over: exit code, all that it printed, and seconds until its first trial and its end."""

    code: int
    text: str
    first_number: float | None
    seconds: float

    @property
    def answer(self) -> str:
        for line in self.text.split("\n"):
            if line.startswith(tuple(f"{answer}: " for answer in ANSWERS)):
                return line
        return ""

    @property
    def trainings(self) -> int:
        """Trainings that it ran, and looks at the training."""
        begins = ("looking at the training", "trying ")
        return sum(" completed in " in line or line.startswith(begins) for line in self.text.split("\n"))


class Comparison:
    """The three commands in one repository."""

    def __init__(self, entry: Entry, planted: Planted, given: argparse.Namespace) -> None:
        self._entry, self._planted = entry, planted
        self._clone = Clone(entry, given)
        self._patches = given.work

    def run(self) -> Compared:
        result = Compared(self._entry.name, self._entry.source)
        self._clone.make()
        result.commit = self._clone.output("git", "rev-parse", "--short", "HEAD")
        result.problem = self._clone.prepare(self._entry.prepare) or self._compare(result)
        return result

    def _compare(self, result: Compared) -> str:
        """What is not as it has to be; empty if all is."""
        planted = self._planted
        if planted.base is not None:
            self._replace(planted.base)
            self._clone.output("git", *AUTHOR, "commit", "--all", "--quiet", "--message", "a weaker training")
        gain, comment = self._gain(), self._comment()
        words = [*_training_flags(self._clone, self._entry), *self._clone.filled(planted.flags)]
        result.flags = shlex.join(words)
        result.change = f"{planted.gain[0]}: {planted.gain[1]} → {planted.gain[2]}"
        before = self._state()
        first = self._autolab("compare", *words, "--patch", str(gain))
        result.gain, result.first_number, result.gain_seconds = first.answer, first.first_number, first.seconds
        if first.code != BETTER or not first.answer.startswith("better: "):
            return f"the gain: exit code {first.code}, {first.answer or last_line(first.text)}"
        second = self._autolab("compare", "--patch", str(comment))
        result.comment, result.comment_seconds = second.answer, second.seconds
        if second.code != NO_GAIN or not second.answer.startswith("no gain: "):
            return f"the comment: exit code {second.code}, {second.answer or last_line(second.text)}"
        again = self._autolab("compare", *words, "--patch", str(gain))
        result.again_seconds = again.seconds
        if (again.code, again.answer, again.trainings) != (first.code, first.answer, 0):
            return f"again: exit code {again.code}, {again.trainings} trainings, {again.answer}"
        changed = sorted(name for name, value in self._state().items() ^ before.items())
        return f"changed: {', '.join(dict.fromkeys(changed))}" if changed else ""

    # what is planted

    def _gain(self) -> Path:
        self._replace(self._planted.gain)
        return self._patch("gain")

    def _comment(self) -> Path:
        path = self._clone.folder / self._planted.comment
        mark = "//" if path.suffix in {".c", ".cu", ".h"} else "#"
        path.write_text(f"{path.read_text()}{mark} a comment\n")
        return self._patch("comment")

    def _replace(self, planted: list[str]) -> None:
        name, before, after = planted
        path = self._clone.folder / name
        text = path.read_text()
        if text.count(before) != 1:
            raise SystemExit(f"{self._entry.name}: {name} has {before!r} {text.count(before)} times, not once")
        path.write_text(text.replace(before, after))

    def _patch(self, name: str) -> Path:
        """The change of the clone as a file beside it; the clone is as it was."""
        path = self._patches / f"{self._entry.name}.{name}.patch"
        path.write_text(self._clone.run(["git", "diff"]).stdout)
        self._clone.output("git", "checkout", "--quiet", "--", ".")
        return path

    # what happens

    def _state(self) -> dict[str, str]:
        """All that a user sees of the clone: the bytes of every file, and what git says of it."""
        state = {}
        for path in sorted(self._clone.folder.rglob("*")):
            name = path.relative_to(self._clone.folder)
            if path.is_file() and name.parts[0] != ".git":
                state[str(name)] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for command in (
            "status --porcelain --ignored",
            "ls-files --stage",
            "branch --all",
            "rev-parse HEAD",
            "stash list",
        ):
            state[f"git {command}"] = self._clone.output("git", *command.split())
        return state

    def _autolab(self, *words: str) -> Ended:
        command = [sys.executable, "-m", "autolab", *words, "--plain"]
        began = time.monotonic()
        first_number, lines = None, []
        with subprocess.Popen(
            command, cwd=self._clone.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if first_number is None and " completed in " in line:
                    first_number = round(time.monotonic() - began, 1)
        seconds = round(time.monotonic() - began, 1)
        text = "".join(lines)
        with self._clone.log.open("a") as log:
            log.write(f"$ {shlex.join(command)}\n{text}[exit {process.returncode}, {seconds} s]\n")
        return Ended(process.returncode, text, first_number, seconds)


def _training_flags(clone: Clone, entry: Entry) -> list[str]:
    """The training command, and the Python, of the entry's command line for `autolab init`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python")
    parser.add_argument("--train-command", required=True)
    known, _ = parser.parse_known_args(clone.filled(entry.init[0]))
    python = ["--python", known.python] if known.python else []
    return [*python, "--train-command", known.train_command]


def table(results: list[Compared]) -> str:
    lines = [
        "| repository | command 1 (`autolab compare …`) | gain, exit code 0 | command 2, a comment: exit code 5"
        " | first number | seconds: gain, comment, gain again |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in results:
        name = f"{one.name} ({one.source.removeprefix('https://github.com/')} {one.commit})"
        gain = f"{one.change}: {one.gain}" if not one.problem else one.problem
        seconds = f"{one.gain_seconds:.0f}, {one.comment_seconds:.0f}, {one.again_seconds:.0f}"
        first = "-" if one.first_number is None else f"{one.first_number:.0f} s"
        cells = (name, f"`{one.flags} --patch gain.patch`", gain, one.comment, first, seconds)
        lines.append(f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in cells)} |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    given = arguments(__doc__ or "", words)
    entries = read_entries(given.table)
    for entry in chosen_entries(entries, given):
        if entry.compare is None:
            continue
        result = Comparison(entry, entry.compare, given).run()
        (given.work / f"{entry.name}.compared.json").write_text(json.dumps(asdict(result), indent=1))
        print(f"{entry.name}: {result.problem or 'as it has to be'}", file=sys.stderr)
    results = []
    for entry in entries:
        path = given.work / f"{entry.name}.compared.json"
        if path.exists():
            results.append(Compared(**json.loads(path.read_text())))
    print(table(results))
    return 1 if any(result.problem for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
