"""The first run of an adopted program: what it needs to run as a trial, and which numbers it prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from autolab.adoption.detection import Setting
from autolab.adoption.lab_files import config_text
from autolab.adoption.probe_findings import ProbeFinding, findings
from autolab.adoption.program_probe import Probed, ProbeView, probe
from autolab.adoption.repository import Repository
from autolab.lab.schemas.config import Config
from autolab.sandbox.exit_record import TrialOutcome
from autolab.stats.metric_names import direction_of
from autolab.trials import metrics, readings
from autolab.trials.readings import Series

ROUNDS = 3
"""How often the program is run at most, each time with one more thing that it was seen to need."""

SUMMARY = 3
"""Metrics that a summary names at most."""


@dataclass(frozen=True)
class Printed:
    """A series of numbers that the program printed or wrote, and where: `stdout`, `stderr`, or the name of a file."""

    source: str
    series: Series

    @property
    def verb(self) -> str:
        return "printed" if self.source in metrics.PRINTED else "wrote"

    @property
    def number(self) -> str:
        """How many values there are."""
        return "1 value" if self.series.count == 1 else f"{self.series.count} values"

    @property
    def last(self) -> str:
        """The last value, with its decimals."""
        return f"{self.series.last:.{self.series.decimals}f}"

    @property
    def values(self) -> str:
        return f"{self.number}, last {self.last}"

    def __str__(self) -> str:
        return f'--metric "{self.series.name}"  {self.values}'


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
        printed, written = [], []
        for source in dict.fromkeys(printed.source for printed in self.printed):
            of_source = [printed.series for printed in self.printed if printed.source == source]
            proposed = [Printed(source, series) for series in readings.proposals(of_source)]
            if source in metrics.PRINTED:
                printed += proposed
            else:
                # A file may hold settings too.
                written += [one for one in proposed if direction_of(one.series.name)]
        if any(direction_of(one.series.name) for one in printed):
            return printed
        return [*written, *printed]


def run_program(
    repository: Repository,
    settings: Sequence[Setting],
    limit_s: float,
    tell: Callable[[str], None],
    view: ProbeView | None = None,
) -> FirstRun:
    """Run the program, again if a data folder is missing that the checkout has, and say what it did.

    `missing` has what keeps it from running as a trial. LabError: the interpreter or a part of the inputs is missing.
    """
    known = list(settings)
    for _ in range(ROUNDS):
        config = Config.from_text(config_text(known), Config.FILE)
        tell(f"trying {config.train.command} for at most {limit_s:.0f} s, as a trial would run it (Ctrl-C ends it)")
        probed = probe(repository, config, limit_s, tell, view)
        missing = findings(probed, repository, config.python or "the Python that runs Autolab")
        folders = [finding.data for finding in missing if finding.data]
        if not folders or config.data is not None:
            break
        # Bound at once: the program may need more, and says so in the next round.
        known.append(Setting("data", folders[0], "the program reads it, and git does not hold it"))
        tell(f"  {missing[0].problem}; git does not hold it: {folders[0]} is bound as the data")
    run = FirstRun(known, probed, tuple(_printed(probed)), time.strftime("%Y-%m-%d %H:%M"), missing, _unread(probed))
    # A run that failed says why in the list of what is missing.
    if not missing:
        tell(f"  {run.end} after {probed.seconds:.0f} s, without an error")
    return run


def _texts(probed: Probed) -> tuple[tuple[str, bytes], ...]:
    return (metrics.STDOUT, probed.out), (metrics.STDERR, probed.err), *probed.reports


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
