"""The first run of an adopted program: what it needs to run as a trial, and which of its numbers decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autolab.adoption.detection import Setting
from autolab.adoption.lab_files import config_text
from autolab.adoption.probe_findings import findings
from autolab.adoption.program_probe import Probed, probe
from autolab.adoption.repository import Repository
from autolab.errors import LabError, UsageError
from autolab.lab.schemas.config import Config
from autolab.sandbox.exit_record import TrialOutcome
from autolab.stats.metric_names import direction_of
from autolab.trials import metrics, readings
from autolab.trials.readings import Series

ROUNDS = 3
"""How often the program is run at most, each time with one more thing that it was seen to need."""
LISTED = 8
"""Metrics that a message lists at most."""


@dataclass(frozen=True)
class Printed:
    """A series of numbers that the program printed, and where: `stdout` or `stderr`."""

    source: str
    series: Series

    def __str__(self) -> str:
        values = "1 value" if self.series.count == 1 else f"{self.series.count} values"
        return f'--metric "{self.series.name}"  {values}, last {self.series.last:.{self.series.decimals}f}'


def run_program(
    repository: Repository, settings: Sequence[Setting], limit_s: float, tell: Callable[[str], None]
) -> tuple[list[Setting], Probed]:
    """The settings with a data folder that the program was seen to need, and what its last run did.

    LabError: it does not run as a trial would run it; what is missing was told, a line each.
    """
    known = list(settings)
    for _ in range(ROUNDS):
        config = Config.from_text(config_text(known), Config.FILE)
        tell(f"trying {config.train.command} for at most {limit_s:.0f} s, as a trial would run it (Ctrl-C ends it)")
        probed = probe(repository, config, limit_s, tell)
        missing = findings(probed, repository, config.python or "the Python that runs Autolab")
        folders = [finding.data for finding in missing if finding.data]
        if not folders or config.data is not None:
            break
        # Bound at once: the program may need more, and says so in the next round.
        known.append(Setting("data", folders[0], "the program reads it, and git does not hold it"))
        tell(f"  {missing[0].problem}; git does not hold it: {folders[0]} is bound as the data")
    if missing:
        for finding in missing:
            tell(f"  missing: {finding}")
        number = "one thing is" if len(missing) == 1 else f"{len(missing)} things are"
        raise LabError(
            f"the training does not run as a trial yet: {number} missing, see above; --probe-seconds 0 makes the lab"
            " without trying it"
        )
    tell(f"  {_end(probed)} after {probed.seconds:.0f} s, without an error")
    return known, probed


def _end(probed: Probed) -> str:
    if probed.stopped:
        return "ended by you"
    if probed.outcome is TrialOutcome.COMPLETED:
        return "ended"
    return "still running"


def choose_metric(probed: Probed, tell: Callable[[str], None]) -> Printed:
    """The one number of those that the program printed that could decide.

    UsageError: there are several, which were told, a line each, or none. A metric whose name does not say which way is
    better is never chosen for the user.
    """
    could_decide = _proposals(probed)
    likely = [printed for printed in could_decide if direction_of(printed.series.name)]
    if len(likely) == 1:
        return likely[0]
    if not could_decide:
        raise UsageError(
            "--metric: the training printed no number that could decide; name it, and where it stands, with"
            " --metric NAME --metric-pattern REGEX"
        )
    for printed in (likely or could_decide)[:LISTED]:
        tell(f"  {printed}")
    raise UsageError("--metric: name the number that decides, such as the first of those above")


def printed_metric(probed: Probed, name: str) -> Printed | None:
    """The series of that name; None if the program did not print it."""
    for source, text in _texts(probed):
        for row in readings.series(readings.readings(text, source)):
            if row.name == name:
                return Printed(source, row)
    return None


def _unread(probed: Probed, name: str) -> str:
    """Why the numbers that the program gave that name cannot be read; empty if it gave it none."""
    for source, text in _texts(probed):
        complaint = readings.complaint_about(name, readings.readings(text, source))
        if complaint:
            return f"{name}: {complaint}"
    return ""


def refuse_unprinted(probed: Probed, name: str, tell: Callable[[str], None]) -> None:
    """UsageError if the program ended without having printed the metric; what it printed instead was told."""
    if probed.outcome is not TrialOutcome.COMPLETED:
        return
    printed = _proposals(probed)[:LISTED]
    for one in printed:
        tell(f"  {one}")
    instead = "what it printed stands above" if printed else "it printed no number that could decide"
    unread = _unread(probed, name)
    if unread:
        raise UsageError(f"--metric: {unread}; {instead}")
    raise UsageError(f"--metric: the training ended without printing {name}; {instead}")


def _proposals(probed: Probed) -> list[Printed]:
    """What could decide: of what it printed, else of what it wrote. A file has settings too, so a name must say it."""
    printed, written = [], []
    for source, text in _texts(probed):
        for row in readings.proposals(readings.series(readings.readings(text, source))):
            if source in metrics.PRINTED:
                printed.append(Printed(source, row))
            elif direction_of(row.name):
                written.append(Printed(source, row))
    if any(direction_of(one.series.name) for one in printed):
        return printed
    return [*written, *printed]


def _texts(probed: Probed) -> tuple[tuple[str, bytes], ...]:
    return (metrics.STDOUT, probed.out), (metrics.STDERR, probed.err), *probed.reports
