"""The first run of an adopted program: what it needs to run as a trial, and which of its numbers decides."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from autolab.adoption import asks_git
from autolab.adoption.detection import Setting
from autolab.adoption.lab_files import config_text
from autolab.adoption.probe_findings import findings
from autolab.adoption.program_probe import Probed, probe
from autolab.adoption.repository import Repository
from autolab.adoption.training_program import command_line
from autolab.errors import LabError, UsageError
from autolab.lab.schemas.config import Config
from autolab.lab.trial_python import env_prefix
from autolab.sandbox.exit_record import TrialOutcome
from autolab.stats.metric_names import direction_of
from autolab.trials import metrics, readings
from autolab.trials.readings import Series

ROUNDS = 5
"""How often the program is run at most, each time with one more thing that it was seen to need."""
LISTED = 8
"""Metrics that a message lists at most."""


@dataclass(frozen=True)
class Printed:
    """A series of numbers that the program printed or wrote, and where, as `train.metrics` names it."""

    source: str
    series: Series

    def __str__(self) -> str:
        values = "1 value" if self.series.count == 1 else f"{self.series.count} values"
        place = "" if self.source in metrics.PRINTED else f", in {self.source}"
        return f'--metric "{self.series.name}"  {values}, last {self.series.last:.{self.series.decimals}f}{place}'


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


def _with_python_path(setting: Setting, folder: str) -> Setting:
    """The setting; a train command with the folder on PYTHONPATH."""
    if setting.key != "train.command":
        return setting
    reason = f"{setting.reason}; its own modules lie in {folder}"
    words = shlex.split(str(setting.value))
    prefix = env_prefix(words)
    words = [*(prefix or ["env"]), f"PYTHONPATH={folder}", *words[len(prefix) :]]
    return replace(setting, value=command_line(words), reason=reason)


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
    could_decide = list(_proposals(probed))
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


def refuse_unprinted(probed: Probed, name: str, tell: Callable[[str], None]) -> None:
    """UsageError if the program ended without having printed the metric; what it printed instead was told."""
    if probed.outcome is not TrialOutcome.COMPLETED:
        return
    printed = list(_proposals(probed))[:LISTED]
    for one in printed:
        tell(f"  {one}")
    instead = "what it printed stands above" if printed else "it printed no number that could decide"
    raise UsageError(f"--metric: the training ended without printing {name}; {instead}")


def _proposals(probed: Probed) -> Iterator[Printed]:
    names = set()
    for source, text in _texts(probed):
        for row in readings.proposals(readings.series(readings.readings(text, source))):
            # What is printed and written to a file too is one metric.
            if row.name not in names:
                names.add(row.name)
                yield Printed(source, row)


def _texts(probed: Probed) -> tuple[tuple[str, bytes], ...]:
    return (metrics.STDOUT, probed.out), (metrics.STDERR, probed.err), *probed.files
