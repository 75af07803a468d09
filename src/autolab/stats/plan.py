"""From a design to a plan: arms, seeds, stopping rule. Pure: no file, no clock, no random number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.config import Config, Direction, Metric, StoppingRule
from autolab.lab.schemas.experiment import Criterion, Design, Hypothesis, Manifest, MaxPairs, Trial
from autolab.lab.schemas.outcomes import RunKind
from autolab.stats import rules
from autolab.stats.criteria import resolve_criteria
from autolab.stats.scores import Scale
from autolab.stats.seeds import search_seeds

BASE, CANDIDATE = "base", "candidate"
"""Names of the code that arms run: what is compared with, and what was changed. `base` holds evaluator and data too."""
AGAIN, ALTERED = "again", "altered"
"""Arms of a calibration: the baseline's first seed once more, the baseline with settings that the lab names."""


CellKey = tuple[str, int]
"""A cell without its seed: arm and index."""


@dataclass(frozen=True)
class Cell:
    """The smallest thing that a run measures: an arm at a seed, `index` being the seed's place in the plan.

    The name of its trial is `trial`. Nothing reads arm or index off that name, so that a cell of another kind, such as
    a sub-experiment, can have an id of its own.
    """

    arm: str
    index: int
    seed: int

    @property
    def trial(self) -> str:
        """The name of the trial that measures it."""
        return f"{self.arm}-s{self.index}"

    @property
    def key(self) -> CellKey:
        return self.arm, self.index


@dataclass(frozen=True)
class PlannedArm:
    """A baseline or a variant with its resolved settings; `code` names the code that runs it, one of the run's commits.

    A `fresh` arm runs in any case, also where an earlier result could be reused.
    """

    name: str
    role: Literal["baseline", "variant"]
    code: str
    settings: dict[str, JsonValue]
    fresh: bool = False


@dataclass(frozen=True)
class Plan:
    """What will be measured and how it will be judged, fixed before the first trial.

    `delta` is in the metric's units. `fixed` says that the design itself names the seeds. `self_reported`
    says that the lab has no evaluator, so that the numbers are the trials' own reports. A plan without a rule
    compares nothing: it is done when every cell is. `only` names the cells that run; None: all.
    `bound` is the worst score that counts: a score beyond it, or of a diverged training, counts as the bound.
    With `alternate` every second pair begins with the variants, so that no arm is always the first. With `drop_failed`
    a failed trial of a variant ends that variant alone; without it, the run.
    With `arm_seeds` it is a screen (`stats/screening.py`): a variant is measured at the first so many seeds at most.
    """

    arms: tuple[PlannedArm, ...]
    seeds: tuple[int, ...]
    metric: str
    direction: Direction
    delta: float
    rule: StoppingRule | None
    fixed: bool
    criteria: tuple[Criterion, ...] = ()
    self_reported: bool = False
    only: frozenset[CellKey] | None = None
    bound: float | None = None
    alternate: bool = False
    drop_failed: bool = False
    arm_seeds: int | None = None

    @property
    def has_common_baseline(self) -> bool:
        """Whether each variant of a screen is compared with the baseline's mean over more seeds than its own."""
        return self.arm_seeds is not None and self.arm_seeds < len(self.seeds)

    @property
    def baseline(self) -> PlannedArm:
        """The first baseline: what every variant is compared with."""
        return next(arm for arm in self.arms if arm.role == "baseline")

    def arm(self, name: str) -> PlannedArm:
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def scale(self) -> Scale:
        """How its trials are read."""
        return Scale(self.metric, self.direction, self.self_reported, self.bound)

    @property
    def variants(self) -> tuple[PlannedArm, ...]:
        return tuple(arm for arm in self.arms if arm.role == "variant")


def plan_design(
    design: Design, config: Config, hypothesis: Hypothesis | None, secret: bytes, protocol: str, base_tree: str
) -> Plan:
    """Resolve a design. RecordError in one line names the field of design.yaml that cannot be run as it stands."""
    seeds = design.reproducibility.seeds
    if isinstance(seeds, MaxPairs):
        seeds = search_seeds(secret, protocol, base_tree, seeds.max_pairs)
    rule = design.test or config.test.stopping_rule
    return _plan_of(design, hypothesis, seeds, rule, config.metric, config.evaluate is None)


def recorded_plan(
    manifest: Manifest, design: Design | None, hypothesis: Hypothesis | None, metric: Metric | None
) -> Plan:
    """The plan of an existing run, from its documents: seeds and rule as the manifest has them.

    A screen has no design of its own: its manifest alone says what it was, and the other documents are not read.
    The seed of a cell that never ran is not in a manifest; -1 stands for it. RecordError: as of `plan_design`; the
    manifest names no rule, or another metric, success_delta or bound than the design; a run that needs a design has
    none.
    """
    if manifest.kind is RunKind.SCREEN:
        return recorded_screen_plan(manifest)
    if design is None:
        raise RecordError(f"design.yaml: missing; {manifest.run_id} cannot be judged without it")
    if manifest.metric not in (None, design.metrics.primary):
        raise RecordError(
            f"run_manifest.json: metric: {manifest.metric!r}, but design.yaml has {design.metrics.primary!r}"
        )
    if manifest.success_delta not in (None, design.metrics.success_delta):
        raise RecordError(
            f"design.yaml: metrics.success_delta: {design.metrics.success_delta:g},"
            f" but {manifest.success_delta:g} was fixed before launch; restore it"
        )
    rule = manifest.rule or design.test
    if rule is None:
        raise RecordError(
            "run_manifest.json: rule: missing; the run cannot be judged without the rule it was made under"
        )
    if design.test is not None and design.test.bound != rule.bound:
        raise RecordError(
            f"design.yaml: test.bound: {design.test.bound}, but {rule.bound} was fixed before launch; restore it"
        )
    seeds = design.reproducibility.seeds
    if isinstance(seeds, MaxPairs):
        seeds = _drawn(manifest, manifest.pairs or seeds.max_pairs)
    elif manifest.kind is not RunKind.SEARCH:
        # The design lists the seeds of the search alone; a confirmation draws its own.
        seeds = _drawn(manifest, manifest.pairs or len(seeds))
    plan = _plan_of(design, hypothesis, seeds, rule, metric, manifest.self_reported)
    if not manifest.arms:  # an older manifest: the design alone names them
        return plan
    return replace(plan, arms=_arms_of(manifest))


def recorded_screen_plan(manifest: Manifest) -> Plan:
    """The plan of an existing screen. -1 stands for the seed of a rung that no trial reached.

    RecordError: the manifest does not say what was screened.
    """
    plan = _question_of(manifest)
    if plan is None or manifest.arm_seeds is None:
        raise RecordError("run_manifest.json: arms, metric, direction or arm_seeds: missing; it does not say a screen")
    return replace(plan, rule=None, fixed=False, arm_seeds=manifest.arm_seeds)


def _drawn(manifest: Manifest, count: int) -> tuple[int, ...]:
    """The seed of each index; -1 where none of its trials was recorded."""
    seed_by_index = {trial.index: trial.seed for trial in manifest.trials}
    return tuple(seed_by_index.get(index, -1) for index in range(count))


def _arms_of(manifest: Manifest, fresh: bool = False) -> tuple[PlannedArm, ...]:
    return tuple(PlannedArm(arm.name, arm.role, arm.code, dict(arm.settings), fresh) for arm in manifest.arms)


def plan_within(plan: Plan, left: int | None) -> Plan | None:
    """The plan with as many pairs as `left` trials (None: no cap) allow; None if so few decide nothing."""
    if left is None or len(planned_cells(plan)) <= left:
        return plan
    # A rule that looks after each pair can decide with fewer; the fixed rule looks once and needs all of them.
    pairs = left // len(plan.arms)
    if plan.rule is None or plan.rule.rule == "fixed" or pairs < rules.FIRST:
        return None
    return replace(plan, seeds=plan.seeds[:pairs])


def confirmation_plan(search: Plan, lead: str, rule: StoppingRule, seeds: tuple[int, ...]) -> Plan:
    """The lead variant against the baseline once more: the search's question on seeds that no search has used."""
    arms = tuple(replace(arm, fresh=True) for arm in search.arms if arm.name in (search.baseline.name, lead))
    return replace(search, arms=arms, seeds=seeds, rule=rule)


def calibration_plan(config: Config, seeds: tuple[int, ...]) -> Plan:
    """The baseline over seeds, its first seed once more, and the altered arm if the lab names one."""
    arms = [PlannedArm("baseline", "baseline", BASE, {}), PlannedArm(AGAIN, "variant", BASE, {}, fresh=True)]
    if config.calibrate.altered:
        arms.append(PlannedArm(ALTERED, "variant", BASE, dict(config.calibrate.altered)))
    # One training twice on the same seed shows whether trainings are deterministic; every seed twice costs too much.
    cells = {(AGAIN, 0)}
    for arm in arms:
        if arm.name != AGAIN:
            cells.update((arm.name, index) for index in range(len(seeds)))
    return Plan(
        arms=tuple(arms),
        seeds=seeds,
        metric=config.metric.primary,
        direction=config.metric.direction,
        delta=config.metric.success_delta or 0.0,  # nothing is compared
        rule=None,
        fixed=True,
        self_reported=config.evaluate is None,
        only=frozenset(cells),
    )


def manual_plan(config: Config, name: str, settings: dict[str, JsonValue], seeds: tuple[int, ...]) -> Plan:
    """The one arm `name`, which is compared with nothing: the candidate's code over seeds."""
    return Plan(
        arms=(PlannedArm(name, "baseline", CANDIDATE, settings),),
        seeds=seeds,
        metric=config.metric.primary,
        direction=config.metric.direction,
        delta=config.metric.success_delta or 0.0,  # nothing is compared
        rule=None,
        fixed=True,
        self_reported=config.evaluate is None,
    )


def reconfirmation_plan(manifest: Manifest) -> Plan:
    """A confirmation's question on its own seeds, to be judged once more. RecordError: the manifest does not say it."""
    plan = _question_of(manifest)
    if plan is None or plan.rule is None:
        raise RecordError("run_manifest.json: arms, metric, direction or rule: missing; it cannot be confirmed anew")
    # -1 stands for the seed of a pair that never ran: there is nothing to judge once more.
    return replace(plan, seeds=tuple(seed for seed in plan.seeds if seed >= 0))


def reproduction_plan(manifest: Manifest, trials: Sequence[Trial]) -> Plan:
    """These trials of a run once more, as its manifest says, whether or not their results are known.

    RecordError: the manifest does not say how its trials ran.
    """
    plan = _question_of(manifest)
    if plan is None:
        raise RecordError("run_manifest.json: arms, metric or direction: missing; such a run cannot be reproduced")
    return replace(
        plan,
        arms=_arms_of(manifest, fresh=True),
        seeds=_drawn(manifest, 1 + max(trial.index for trial in trials)),
        rule=None,
        only=frozenset((trial.arm, trial.index) for trial in trials),
    )


def _question_of(manifest: Manifest) -> Plan | None:
    """What a run compared, on the seeds that it drew; None if its manifest does not say it."""
    if not manifest.arms or manifest.metric is None or manifest.direction is None:
        return None
    return Plan(
        arms=_arms_of(manifest),
        seeds=_drawn(manifest, manifest.pairs or 0),
        metric=manifest.metric,
        direction=manifest.direction,
        delta=manifest.success_delta or 0.0,
        rule=manifest.rule,
        fixed=True,
        self_reported=manifest.self_reported,
        bound=Scale.of(manifest).bound,
    )


def _plan_of(
    design: Design,
    hypothesis: Hypothesis | None,
    seeds: tuple[int, ...],
    rule: StoppingRule,
    metric: Metric | None,
    self_reported: bool,
) -> Plan:
    for name, arms in (("baselines", design.baselines), ("variants", design.variants)):
        if not arms:
            raise RecordError(
                f"design.yaml: {name}: none given; a comparison needs at least one baseline and one variant"
            )
    if len(seeds) < 2:
        raise RecordError(
            "design.yaml: reproducibility.seeds: one seed shows no spread;"
            " give at least 2, or {max_pairs: n} to have them drawn"
        )
    # A change that is merely not worse would be kept as a gain.
    if rule.require != "better":
        raise RecordError(
            f"test.require: {rule.require} is a question of `autolab compare`; a lab keeps gains: leave it out"
        )
    # Seeds that the design lists were chosen by somebody; drawn ones come from the lab's secret.
    listed = not isinstance(design.reproducibility.seeds, MaxPairs)
    if listed:
        # A list of seeds is a fixed-n design, whatever rule the lab uses otherwise.
        rule = rule.model_copy(update={"rule": "fixed"})
    direction = _direction(design, hypothesis, metric)
    return Plan(
        arms=tuple(_arms(design)),
        seeds=seeds,
        metric=design.metrics.primary,
        direction=direction,
        delta=design.metrics.success_delta,
        rule=rule,
        fixed=listed,
        criteria=tuple(resolve_criteria(design, direction, metric)),
        self_reported=self_reported,
        bound=rule.bound,
    )


def _arms(design: Design) -> Iterator[PlannedArm]:
    shared: dict[str, JsonValue] = dict(design.train)
    if design.dataset is not None:
        shared["dataset"] = design.dataset
    for arm in design.baselines:
        yield PlannedArm(arm.name, "baseline", arm.code or BASE, {**shared, **arm.config_overrides})
    for arm in design.variants:
        yield PlannedArm(arm.name, "variant", arm.code or CANDIDATE, {**shared, **arm.config_overrides})


def _direction(design: Design, hypothesis: Hypothesis | None, metric: Metric | None) -> Direction:
    """The one direction in which the primary metric is good; every document that names it must agree."""
    primary = design.metrics.primary
    if hypothesis is not None and hypothesis.metric != primary:
        raise RecordError(
            f"design.yaml: metrics.primary: {primary!r}, but hypothesis.md claims something about"
            f" {hypothesis.metric!r}; test the metric that was claimed"
        )
    directions: dict[str, Direction] = {}
    if design.metrics.direction is not None:
        directions["design.yaml"] = design.metrics.direction
    if hypothesis is not None:
        directions["hypothesis.md"] = hypothesis.direction
    if metric is not None and metric.primary == primary:
        directions["config.yaml"] = metric.direction
    if not directions:
        raise RecordError(
            f"design.yaml: metrics.direction: missing for {primary!r};"
            " write minimize or maximize here or in hypothesis.md"
        )
    if len(set(directions.values())) > 1:
        sources = ", ".join(f"{file} says {direction}" for file, direction in directions.items())
        raise RecordError(f"design.yaml: metrics.direction: contradiction for {primary!r}: {sources}")
    return next(iter(directions.values()))


def planned_cells(plan: Plan) -> list[Cell]:
    """Every cell, pair by pair in seed order and baselines first, so that the read prefix grows.

    Of a screen these are the most that it may need; a batch without a variant needs none.
    """
    cells = []
    if plan.arm_seeds is not None and not plan.variants:
        return []
    for index, seed in enumerate(plan.seeds):
        arms = plan.arms
        if plan.arm_seeds is not None and index >= plan.arm_seeds:
            arms = (plan.baseline,)
        if plan.alternate and index % 2:
            arms = arms[::-1]
        cells += [Cell(arm.name, index, seed) for arm in arms]
    return [cell for cell in cells if plan.only is None or cell.key in plan.only]
