"""The first run of an adopted program: what it needs to run as a trial, and which numbers it prints."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from autolab.adoption import asks_git, data_entries
from autolab.adoption.detection import Setting, with_data
from autolab.adoption.lab_files import config_text
from autolab.adoption.probe_findings import ProbeFinding, findings
from autolab.adoption.program_probe import Probed, ProbeView, probe
from autolab.adoption.repository import Repository
from autolab.adoption.seed_proof import first_watch
from autolab.adoption.training_program import command_line
from autolab.lab.schemas.config import Config
from autolab.lab.trial_python import env_prefix
from autolab.sandbox.exit_record import TrialOutcome
from autolab.stats.metric_names import direction_of
from autolab.trials import metrics, readings
from autolab.trials.readings import Series

ROUNDS = 5
"""How often the program is run at most, each time with one more thing that it was seen to need."""

SUMMARY = 3
"""Metrics that a summary names at most."""


@dataclass(frozen=True)
class Printed:
    """A series of numbers that the program printed or wrote, and where, as `train.metrics` names it."""

    source: str
    series: Series

    @property
    def number(self) -> str:
        """How many values there are."""
        return "1 value" if self.series.count == 1 else f"{self.series.count} values"

    @property
    def verb(self) -> str:
        return "printed" if self.source in metrics.PRINTED else "wrote"

    @property
    def last(self) -> str:
        """The last value, with its decimals."""
        return f"{self.series.last:.{self.series.decimals}f}"

    @property
    def values(self) -> str:
        return f"{self.number}, last {self.last}"

    def __str__(self) -> str:
        place = "" if self.source in metrics.PRINTED else f", in {self.source}"
        return f'--metric "{self.series.name}"  {self.values}{place}'


@dataclass(frozen=True)
class FirstRun:
    """What the last of the runs did, and the settings with what the program was seen to need.

    `printed` are all series, in their order; `unread` has other names that it printed with a number, each with why that
    cannot be read. `at` is the local time of its end, such as "2026-03-01 14:02".
    """

    settings: list[Setting]
    probed: Probed
    printed: tuple[Printed, ...]
    at: str
    missing: list[ProbeFinding] = field(default_factory=list)
    """What kept it from its end."""
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the program came to its end, so that it has printed all that it prints."""
        return self.probed.outcome is TrialOutcome.COMPLETED

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.missing:
            return "failed"
        if self.probed.stopped:
            return "ended by you"
        return "ended" if self.is_whole else "still running"

    @property
    def summary(self) -> str:
        """How it ended, and what it printed that could decide."""
        shown = [f"{printed.series.name}: {printed.values}" for printed in self.proposals()[:SUMMARY]]
        return f"{'; '.join(shown) or 'no number that could decide'} ({self.end} after {self.probed.seconds:.0f} s)"

    def series_of(self, name: str) -> Printed | None:
        """The series of that name; None if the program did not print it."""
        for printed in self.printed:
            if printed.series.name == name:
                return printed
        return None

    def proposals(self) -> list[Printed]:
        """The series that could decide, best first: those it printed; those of files only if no such name says much."""
        printed: dict[str, Printed] = {}
        written: dict[str, Printed] = {}
        for source in dict.fromkeys(printed.source for printed in self.printed):
            of_source = [printed.series for printed in self.printed if printed.source == source]
            for series in readings.proposals(of_source):
                if source in metrics.PRINTED:
                    printed.setdefault(series.name, Printed(source, series))
                elif direction_of(series.name):
                    # A file may hold settings too.
                    written.setdefault(series.name, Printed(source, series))
        # What is printed and written to a file too is one metric.
        if any(direction_of(name) for name in printed):
            return list(printed.values())
        return [*written.values(), *printed.values()]


def run_program(
    repository: Repository,
    settings: Sequence[Setting],
    limit_s: float,
    tell: Callable[[str], None],
    view: ProbeView | None = None,
) -> FirstRun:
    """Run the program, again with data that it was seen to need, and say what it did.

    `missing` has what keeps it from running as a trial. LabError: the interpreter or a part of the inputs is missing.
    """
    known = list(settings)
    for number in range(ROUNDS):
        config = Config.from_text(config_text(known), Config.FILE)
        if number == 0:
            tell(f"trying {config.train.command} for at most {limit_s:.0f} s, as a trial would run it (Ctrl-C ends it)")
        else:
            tell(f"trying it again, for at most {limit_s:.0f} s")
        probed = probe(repository, config, limit_s, tell, view, watch=first_watch(config, limit_s))
        bound = list(config.data_entries)
        python = config.python or "the Python that runs Autolab"
        missing = findings(probed, repository, python, bound, config.train.command)
        if probed.asked_git and not config.train.repository:
            known.append(asks_git.asked("it asked git"))
            if any(finding.wants_repository for finding in missing):
                tell("  it asks git, which found no repository: trials get a read-only one of what they see")
                continue
        homes = [finding.python_path for finding in missing if finding.python_path]
        if homes and not any(word.startswith("PYTHONPATH=") for word in shlex.split(config.train.command)):
            tell(f"  {missing[0].problem}: PYTHONPATH={homes[0]} is set for it")
            known = [_with_python_path(setting, homes[0]) for setting in known]
            continue
        # Bound at once: the program may need more, and says so in the next round.
        wanted = data_entries.merged(bound, [entry for finding in missing for entry in finding.data])
        if wanted == bound:
            break
        known = with_data(known, wanted)
        for finding in missing:
            if finding.data:
                tell(f"  {finding.bound}")
    run = FirstRun(known, probed, tuple(_printed(probed)), time.strftime("%Y-%m-%d %H:%M"), missing, _unread(probed))
    # A run that failed says why in the list of what is missing.
    if not missing:
        tell(f"  {run.end} after {probed.seconds:.0f} s, without an error")
    return run


def _with_python_path(setting: Setting, folder: str) -> Setting:
    """The setting; a train command with the folder on PYTHONPATH."""
    if setting.key != "train.command":
        return setting
    reason = f"{setting.reason}; its own modules lie in {folder}"
    words = shlex.split(str(setting.value))
    prefix = env_prefix(words)
    words = [*(prefix or ["env"]), f"PYTHONPATH={folder}", *words[len(prefix) :]]
    return replace(setting, value=command_line(words), reason=reason)


def _texts(probed: Probed) -> tuple[tuple[str, bytes], ...]:
    return (metrics.STDOUT, probed.out), (metrics.STDERR, probed.err), *probed.files


def _printed(probed: Probed) -> Iterator[Printed]:
    for source, text in _texts(probed):
        for series in readings.series(readings.readings(text, source)):
            yield Printed(source, series)


def _unread(probed: Probed) -> dict[str, str]:
    unread: dict[str, str] = {}
    for source, text in _texts(probed):
        for name, complaint in readings.complaints(readings.readings(text, source)).items():
            unread.setdefault(name, complaint)
    return unread
