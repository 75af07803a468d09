"""Two more short runs of an adopted program prove its seed: the same seed once more, then another one.

What the runs printed of the metric is compared as text, to the last digit. Of a program that is still running at its
limit, the first numbers are compared, and the runs end once they have printed those. All runs together take no longer
than `--probe-seconds`: what does not fit is not proved, and `autolab calibrate` shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from autolab.adoption.detection import Setting
from autolab.adoption.output_watch import OutputWatch, Times, numbers
from autolab.adoption.program_probe import SEED, Probed, ProbeView, probe
from autolab.adoption.program_seed import ProgramSeed
from autolab.adoption.repository import Repository
from autolab.adoption.training_program import Program
from autolab.lab.schemas.config import Config
from autolab.sandbox.exit_record import TrialOutcome
from autolab.stats.metric_names import direction_of, is_of_training
from autolab.trials import metrics
from autolab.trials.metrics import Primary
from autolab.trials.seed_ways import ways_in_words

OTHER_SEED = SEED + 7
"""Not the next one: C's `srand` takes 0 and 1 for the same."""
SLACK = 1.25
"""How much longer a run may take than the first one did for the same."""
ENDING_S = 1.0
"""Seconds that it may take to end a run."""
FEWEST = 2
"""Numbers of a program that is still running, from which on they are compared."""
KEY = "seed"
"""What the list of settings calls the proof; it is no key of the configuration."""
_IMPORTS_JAX = re.compile(r"(?m)^\s*(?:import|from)\s+(?:jax|flax|optax|haiku|equinox)\b")
_SHOWN = "`autolab calibrate` shows it"


@dataclass(frozen=True)
class SeedProof:
    """What the runs showed: a line for the list of settings, a note for the user (empty: none), and all numbers of the
    metric that any of them printed."""

    setting: Setting | None
    note: str
    values: tuple[str, ...]


def first_watch(config: Config, limit_s: float) -> OutputWatch:
    """Ends the first run early enough for the two others, if the metric's first numbers come soon enough for them."""
    name = config.metric.primary

    def due(times: Times) -> float | None:
        # The metric may not be known yet: any number that could decide may become it.
        could_decide = [
            series[FEWEST - 1]
            for (_, other), series in times.items()
            if len(series) >= FEWEST and (other == name or (direction_of(other) and not is_of_training(other)))
        ]
        if not could_decide:
            return None
        others_s = 2 * SLACK * max(could_decide) + ENDING_S
        return limit_s - others_s if max(could_decide) + others_s <= limit_s else None

    return OutputWatch.of(config, due)


@dataclass(frozen=True)
class SeedCheck:
    """A program that may be run again to prove its seed. `config` names the metric and where it is printed."""

    repository: Repository
    config: Config
    program: Program
    seed: ProgramSeed
    tell: Callable[[str], None]
    view: ProbeView | None = None

    def prove(self, first: Probed, limit_s: float) -> SeedProof:
        """Run the program with the seed of its `first` run again, and with another; Ctrl-C ends a run.

        `limit_s`: for all runs together. LabError: the interpreter or a part of the inputs is missing.
        """
        values = printed_values(self.config, first)
        count, problem = _comparable(self.config, first, values, limit_s)
        if problem:
            return _unproved(problem, values)
        left = limit_s - first.seconds
        self.tell(f"  again with the same seed, for at most {left / 2:.0f} s")
        again = self._run(left / 2, count, SEED)
        repeated = printed_values(self.config, again)
        seen = [*values, *repeated]
        problem = _why_not(again, repeated, values, "the same seed")
        if problem:
            return _unproved(problem, seen)
        difference = _difference(values, repeated, _is_whole(first, again))
        if difference is not None or not self._has_way:
            return SeedProof(None, self._without_another(difference, values[-1]), tuple(seen))
        left -= again.seconds
        self.tell(f"  again with another seed, for at most {left:.0f} s")
        other = self._run(left, count, OTHER_SEED)
        printed = printed_values(self.config, other)
        seen += printed
        problem = _why_not(other, printed, values, "another seed")
        if problem:
            return _unproved(problem, seen)
        difference = _difference(values, printed, _is_whole(first, other))
        if difference is None:
            return SeedProof(None, self._ignored(values, printed, count), tuple(seen))
        pair = f"{self.config.metric.primary} {' and '.join(difference)}"
        reason = f"same seed, same result; another seed, another result: {pair}"
        return SeedProof(Setting(KEY, "proved", reason), "", tuple(seen))

    @property
    def _has_way(self) -> bool:
        """Whether anything carries the seed to the program."""
        return self.seed.how != "none" or self.config.train.seed_libraries

    def _run(self, limit_s: float, count: int | None, seed: int) -> Probed:
        """One more run, to its end or until it has printed `count` numbers of the metric."""
        place = (self.config.train.metrics, self.config.metric.primary)

        def due(times: Times) -> float | None:
            return 0.0 if count is not None and len(times.get(place, [])) >= count else None

        watch = OutputWatch.of(self.config, due)
        return probe(self.repository, self.config, limit_s, self.tell, self.view, seed=seed, watch=watch)

    def _without_another(self, difference: tuple[str, str] | None, last: str) -> str:
        """What two runs with one seed show, where a run with another seed would add nothing."""
        name, program = self.config.metric.primary, self.program.name
        if difference is None:
            return f"two runs gave the same {name} ({last}): nothing in {program} is random, or its seed is fixed in it"
        pair = " and ".join(difference)
        if self._has_way:
            return f"{program} is not deterministic with a seed ({name} {pair}): measured as noise"
        return f"two runs gave {name} {pair}: nothing repeats what {program} draws"

    def _ignored(self, values: list[str], others: list[str], count: int | None) -> str:
        """The warning for a seed that changes nothing, with the smallest change that makes it count."""
        name, equal = self.config.metric.primary, min(len(values), len(others))
        same = f"the same {name} ({values[-1]})"
        if count is not None:
            same = f"the same first {equal} numbers of {name} ({values[equal - 1]})"
        return (
            f"another seed gave {same}, so no gain could be told from chance: {ways_in_words(self.config.train)}, but"
            f" what is random in {self.program.name} does not follow from it: seed that from this number (random.seed,"
            " numpy.random.seed, torch.manual_seed), and commit; if only the printed digits are equal, print more of"
            " them, or train longer"
        )


def printed_values(config: Config, probed: Probed) -> list[str]:
    """The numbers of the metric, as the program printed or wrote them; none if it does not."""
    texts = dict(probed.files) | {metrics.STDOUT: probed.out, metrics.STDERR: probed.err}
    content = texts.get(config.train.metrics, b"")
    if probed.outcome is not TrialOutcome.COMPLETED:
        # Its last line may not be whole.
        content = content[: content.rfind(b"\n") + 1]
    found = numbers(content, config.train.metrics, Primary.of(config))
    return [text for name, text in found if name == config.metric.primary]


def jax_note(program: Program, seed: ProgramSeed) -> str:
    """What a user of JAX should know of a program in which no seed was found; empty if there is nothing to say."""
    if seed.how != "none" or not _IMPORTS_JAX.search(program.text + program.neighbours):
        return ""
    return (
        f"{program.name} uses JAX, which has explicit keys and no global seed: train.seed_libraries does not reach"
        " them: make its key from a constant, key = jax.random.PRNGKey(0), which each trial replaces with its seed,"
        ' or from int(os.environ.get("AUTOLAB_SEED", "0")), and commit'
    )


def _comparable(config: Config, first: Probed, values: list[str], limit_s: float) -> tuple[int | None, str]:
    """How many numbers are compared (None: all of two whole runs), or why there is no use in running it again."""
    source = config.train.metrics
    if first.stopped:
        return None, "you ended the first run"
    if not values:
        return None, f"the first run shows no number of {config.metric.primary}"
    left = limit_s - first.seconds
    if first.outcome is TrialOutcome.COMPLETED and 2 * SLACK * first.seconds <= left:
        return None, ""
    if not first.times and left > 0 and source in metrics.PRINTED and len(values) >= FEWEST:
        # An earlier command's run, of which the times were not kept.
        return FEWEST, ""
    in_time = [at for at in first.times.get((source, config.metric.primary), []) if 2 * SLACK * at <= left]
    if len(in_time) < FEWEST:
        return None, f"takes too long for two more runs in {limit_s:.0f} s; --probe-seconds gives them more time"
    return len(in_time), ""


def _is_whole(*runs: Probed) -> bool:
    return all(run.outcome is TrialOutcome.COMPLETED for run in runs)


def _why_not(run: Probed, values: list[str], first: list[str], seed: str) -> str:
    """Why a run with `seed` cannot be compared with the first one; empty if it can."""
    if run.stopped:
        return f"you ended the run with {seed}"
    if run.failed:
        return f"with {seed} it failed: {run.message}"
    if run.outcome is not TrialOutcome.COMPLETED and min(len(values), len(first)) < FEWEST:
        return f"with {seed} it took longer"
    if not values:
        return f"with {seed} it did not print the metric"
    return ""


def _difference(first: list[str], second: list[str], is_whole: bool) -> tuple[str, str] | None:
    """The first two numbers that differ; None if there are none among those that both have printed."""
    for before, after in zip(first, second, strict=False):
        if before != after:
            return before, after
    if is_whole and len(first) != len(second):
        longer = max(first, second, key=len)
        return longer[-1], "no such number"
    return None


def _unproved(problem: str, values: list[str] | tuple[str, ...]) -> SeedProof:
    return SeedProof(Setting(KEY, "not proved", f"{problem}; {_SHOWN}"), "", tuple(values))
