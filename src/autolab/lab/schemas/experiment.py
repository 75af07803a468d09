"""Documents of one iteration: hypothesis, design, review, run, results, record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from autolab.lab.front_matter import front_matter
from autolab.lab.schemas.config import Count, Direction, Positive, StoppingRule, TimeLimit
from autolab.lab.schemas.outcomes import Decision, Recommendation, RunKind, TrialOutcome, Verdict
from autolab.lab.schemas.record import Prose, Record, Sentence, Settings, read_document
from autolab.text import short_name

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
"""The name of an arm. It becomes a folder, a row of tables and a part of a job's name."""


class Hypothesis(Record):
    """The front matter of `hypothesis.md`: one testable claim."""

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/hypothesis.md"

    id: str
    title: str
    metric: str
    direction: Direction
    success_delta: Positive
    success: str
    risk_bounds: tuple[str, ...]
    mechanism: str
    references: tuple[str, ...] = ()
    parent: str | None = None
    family: str | None = None
    """The family of mechanisms. Lessons are counted by family."""
    changes: dict[str, JsonValue] = {}
    """What the hypothesis changes in the base, by mechanism."""

    @classmethod
    def load(cls, path: Path, name: str | None = None) -> Self:
        """Read the front matter of `path`. RecordError names file, line and field."""
        name = name or path.name
        return cls.from_text(front_matter(read_document(path, name), name), name)


class Arm(Record):
    """A baseline or a variant: the settings that it overrides, and whose code it runs."""

    name: Name
    config_overrides: Settings = {}
    code: Literal["base", "candidate"] | None = None


class Entrypoint(Record):
    """What a trial runs: a module with arguments (`python -m module --key value`) or a command line."""

    module: str | None = None
    command: str | None = None
    args: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _one_of_both(self) -> Entrypoint:
        if (self.module is None) == (self.command is None):
            raise ValueError("name either module or command")
        return self


class Slurm(Record):
    """Resources of Slurm that a design names. They are recorded; no executor of Autolab's requests them."""

    partition: str | None = None
    time: str | None = None
    cpus_per_task: int | None = None
    cpus: int | None = None
    mem_gb: float | None = None
    gpus: int | None = None
    job_id: str | None = None


class Compute(Record):
    """Where the trials are to run."""

    location: str = "local"
    slurm: Slurm | None = None


class MaxPairs(Record):
    """The lab draws the seeds: as many pairs as the rule needs, at most `max_pairs`."""

    max_pairs: Annotated[int, Field(ge=2)]


class Reproducibility(Record):
    """The seeds of the trials: named one by one, or drawn by the lab."""

    seeds: tuple[int, ...] | MaxPairs
    deterministic: bool = True

    @model_validator(mode="after")
    def _seeds_are_different(self) -> Reproducibility:
        if isinstance(self.seeds, tuple):
            if not self.seeds:
                raise ValueError("seeds: none given")
            # Equal trainings are not independent: the interval would be too narrow.
            if len(set(self.seeds)) != len(self.seeds):
                raise ValueError("seeds: a seed is given twice, which would count one training as two")
        return self


class DesignMetrics(Record):
    """The metric that decides, the smallest gain worth having in its units, and metrics that are only reported."""

    primary: str
    secondary: tuple[str, ...] = ()
    success_delta: Positive
    direction: Direction | None = None


class Criterion(Record):
    """A threshold on a metric. Without `direction`, it follows from `target` and `failure`."""

    metric: Annotated[str, Field(max_length=200), AfterValidator(short_name)]
    target: float
    acceptable: float | None = None
    failure: float | None = None
    direction: Direction | None = None


class Design(Record):
    """The executable spec of an experiment."""

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/design.yaml"

    id: str
    iteration_id: str
    hypothesis_id: str
    description: str = ""
    entrypoint: Entrypoint
    compute: Compute = Compute()
    reproducibility: Reproducibility
    metrics: DesignMetrics
    baselines: tuple[Arm, ...] = ()
    variants: tuple[Arm, ...] = ()
    model: dict[str, JsonValue] | None = None
    """The candidate's model. From a `model_config` in it the assembler can write the code."""
    changes: dict[str, JsonValue] = {}
    """What the variants change in the base, by mechanism."""
    dataset: str | None = None
    train: dict[str, JsonValue] = {}
    aggregation: Literal["mean"] = "mean"
    criteria: tuple[Criterion, ...] = ()
    test: StoppingRule | None = None
    base_commit: str | None = None

    @model_validator(mode="after")
    def _arms_are_named_once(self) -> Design:
        # An arm is its name in folders, tables and comparisons.
        names = [arm.name for arm in (*self.baselines, *self.variants)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"arm name used twice: {', '.join(twice)}")
        return self


class Finding(Record):
    """A problem that a verifier or a reviewer reports."""

    check: Sentence
    severity: Literal["blocking", "advisory"]
    message: Prose
    file: Sentence | None = None


class Calibration(Record):
    """What trials of the baseline show about the lab: its noise, the cost of a trial, and what it can resolve.

    Metric and standard deviations are in the metric's units, times in seconds. `deterministic`: the same seed gave the
    same predictions to the byte; if not, `rerun_difference` is the change of the metric. `correlation` is that of
    baseline and altered arm over shared seeds. `success_delta` is that of config.yaml; with `derived` it was taken from
    the noise and the budget; null: nothing can be resolved. `pairs` is the number of pairs that show such a gain with a
    power of 80%; null: more than any budget. `max_pairs` is the most that one test may take. `refused`: why nothing can
    be measured yet.
    """

    FILE: ClassVar[str] = ".autolab/calibration.json"

    protocol: str
    commit: str
    run_id: str
    at: str
    metric: str
    success_delta: float | None
    derived: bool = False
    seeds: Annotated[int, Field(ge=1)]
    mean: float
    deviation: float
    quantum: float
    seconds: float
    slowest_seconds: float
    max_rss_bytes: Count
    deterministic: bool
    rerun_difference: float
    seeds_differ: bool
    altered: dict[str, JsonValue] = {}
    altered_effect: float | None = None
    """The altered arm's mean gain over the baseline at shared seeds; positive is better."""
    correlation: float | None = None
    difference_deviation: float
    worst: float | None = None
    """The worst of the baseline's trials."""
    constant: float | None = None
    """The score of a constant prediction; null if the evaluator refuses one, or the lab has no evaluator."""
    bound: float | None = None
    """The worst score that counts, if `test.bound` is null."""
    pairs: Count | None
    max_pairs: Count
    advice: tuple[str, ...] = ()
    refused: str = ""


class ReviewResult(Record):
    """The review of a candidate. Launch requires one that passes and names the commit."""

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/review_result.json"

    status: Literal["pass", "needs_retry", "failed"]
    blocking_findings: tuple[Finding | str, ...] = ()
    required_checks: dict[str, Literal["pass", "skip", "fail"]]
    reviewed_at: str
    commit: str | None = None
    reviewer: str | None = None


class Interval(Record):
    """A mean difference (positive is better) with its confidence interval under the rule of the run."""

    n: Count
    mean: float
    low: float | None
    high: float | None
    level: float


class CutTrials(Record):
    """How many of an arm's trials count with the bound. `diverged` had no finite score, the others a worse one.

    `at_most` is the one-sided 95% upper limit of the share of such trainings (Clopper-Pearson).
    """

    arm: str
    trials: Annotated[int, Field(ge=1)]
    cut: Count
    diverged: Count
    at_most: float


class Comparison(Record):
    """One variant against the first baseline, judged by the rule that was fixed before launch."""

    arm: str
    baseline: str
    metric: str
    difference: Interval
    verdict: Verdict
    reason: str = ""
    pairs: Count | None = None
    """Pairs of trials that were compared. If the seed changes nothing, `difference.n` counts parts of the data."""
    e_plus: float | None = None
    e_minus: float | None = None
    """Under a sequential rule: e-values against "no gain" and against "a gain of at least success_delta"."""
    bound: float | None = None
    """The worst score that counts. null: scores count as they are, and one that is not finite fails the run."""
    cut: tuple[CutTrials, ...] = ()
    """Cut trials of the baseline and of the variant, if there is a bound."""


class Trial(Record):
    """One training and its score: an arm at a seed, with the attempt that counts."""

    trial: str
    arm: str
    index: Count
    seed: int
    attempt: Annotated[int, Field(ge=1)]
    commit: str
    key: str
    content: str
    outcome: TrialOutcome
    score: dict[str, float] = {}
    self_reported: dict[str, float] = {}
    diverged: tuple[str, ...] = ()
    """The compared metric, if the trial completed and the metric is not a finite number."""
    parts: tuple[float, ...] = ()
    """The primary metric on equal parts of the evaluation, if another seed gave the same predictions."""
    predictions_sha256: str | None = None
    rows: Count = 0
    """Number of predictions that were scored; 0 if there are none or they were not counted."""
    agreement: float | None = None
    """The share of predictions whose largest value is at the label, if labels are classes."""
    suspicions: tuple[str, ...] = ()
    """Why this trial alone looks too good or too easy: phrases that continue its name."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """CPU time of the train step; 0 if it was not measured."""
    contained: dict[str, str] = {}
    max_rss_bytes: Count = 0
    output_bytes: Count = 0
    message: str = ""
    reused_from: str | None = None


class ManifestGit(Record):
    """The commits of a run. `dirty`: the user's checkout had uncommitted changes."""

    control_plane_commit: str
    remote_commit: str | None = None
    candidate_commit: str | None = None
    base_commit: str | None = None
    dirty: bool


class SyncStep(Record):
    """The status of a transfer, and the time of its end."""

    status: Literal["pending", "ok", "failed", "na"]
    completed_at: str | None = None


class ManifestSync(Record):
    """The transfer of a run's files to this machine. Results are read only after it."""

    artifact_sync_to_local: SyncStep


class Environment(Record):
    """The trials' interpreter and the hash of its packages."""

    python: str
    version: str
    packages_sha256: str


class FileHash(Record):
    """A file as it was when the run began."""

    path: str
    sha256: str


class RunArm(Record):
    """An arm of a run: the name of its code, and all its settings. `commit`: of code that is not base or candidate."""

    name: Name
    role: Literal["baseline", "variant"]
    code: str
    commit: str | None = None
    settings: dict[str, JsonValue] = {}


class Manifest(Record):
    """The record of a run: everything that its numbers depend on, and the trials."""

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/runs/<RUN_ID>/run_manifest.json"

    run_id: str
    iteration_id: str
    kind: RunKind = RunKind.SEARCH
    description: str = ""
    """What the user says of a run of `autolab eval`."""
    lab_id: str | None = None
    status: Literal["running", "completed", "failed"] | None = None
    git: ManifestGit
    location: str
    slurm: Slurm | None = None
    command: str
    sync: ManifestSync
    verifier_results: dict[str, str]
    started_at: str
    ended_at: str | None = None
    artifacts: dict[str, str]
    design_sha256: str | None = None
    rule: StoppingRule | None = None
    metric: str | None = None
    direction: Direction | None = None
    success_delta: float | None = None
    arms: tuple[RunArm, ...] = ()
    bound: float | None = None
    """In a run without a rule, such as a screen: the worst score that counts. Else the rule states it."""
    pairs: Count | None = None
    """The largest number of pairs that was planned."""
    arm_seeds: Count | None = None
    """In a screen, the seeds that a variant may get. With more `pairs` the baseline's mean over all of them counts."""
    protocol: str | None = None
    lab: dict[str, JsonValue] = {}
    """The keys of config.yaml that determine how a trial ran and was measured, with their values then."""
    time_limit: TimeLimit | None = None
    """How long each training could take."""
    environment: Environment | None = None
    evaluator: FileHash | None = None
    data: dict[str, str] | None = None
    frozen: dict[str, str] = {}
    containment: Literal["full", "partial", "none"] | None = None
    self_reported: bool = False
    trials: tuple[Trial, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    reason: str = ""


class ArmMetrics(Record):
    """One metric of one arm: its mean, the sample standard deviation, and the number of trials."""

    mean: float
    std: float | None
    n: Count


class RunMetrics(Record):
    """The numbers of a run, which the engine computes from the scores of its trials."""

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/runs/<RUN_ID>/metrics.json"

    run_id: str
    primary: str
    self_reported: bool
    arms: dict[str, dict[str, ArmMetrics]]
    comparisons: tuple[Comparison, ...]


class Repeated(Record):
    """One trial that ran again: the primary metric then and now."""

    trial: str
    was: float
    now: float | None
    standing: Literal["identical", "within_noise", "different"]


class Reproduction(Record):
    """The trials of a run, repeated in fresh exports of its commits and compared.

    identical: the same predictions to the byte (in a lab without predictions, the same numbers). within_noise: no trial
    moved by more than 3 sqrt(2) standard deviations, and their mean by no more than 3 sqrt(2 / n). `noise` is the
    standard deviation; `noise_of` says where it comes from.
    """

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/runs/<RUN_ID>/reproduction.json"

    of: str
    run_id: str
    metric: str
    noise: float | None
    noise_of: str
    trials: tuple[Repeated, ...]
    standing: Literal["identical", "within_noise", "different"]
    differs: tuple[str, ...] = ()
    """How the environment differs from that of the first time."""


class SubExperiment(Record):
    """The result of one arm."""

    status: Literal["completed", "failed", "skipped"]
    finding: str = ""
    metrics: dict[str, float] = {}
    artifacts: tuple[str, ...] = ()
    error: str | None = None


class SubExperiments(Record):
    """The results by arm."""

    experiments: dict[str, SubExperiment]


class Confirmation(Record):
    """The result of measuring a supported variant again on fresh seeds, and then once on the holdout.

    `shrunken` is the gain to claim: the mean of the confirmation, shrunken towards 0. `alpha` is its error rate,
    `claim` its number in the campaign. `outcome`: kept; retracted if fresh seeds did not repeat the gain; search_only
    if they did and the holdout did not, or has no questions left; suspicious if it waits for the user. `holdout_error`
    names the sources of the holdout's error; no number measured on the holdout is recorded.
    """

    run_id: str
    arm: str
    difference: Interval
    shrunken: float
    reason: str
    holdout: Literal["passed", "failed", "none", "used_up", "not_asked"]
    holdout_error: Literal["rows and seeds", "rows", "seeds", "nothing"] | None = None
    outcome: Literal["kept", "retracted", "search_only", "suspicious"]
    claim: Annotated[int, Field(ge=1)]
    alpha: float
    suspicions: tuple[str, ...] = ()
    """Why a claim that would be kept waits for the user: one reason a line."""

    @property
    def evaluation_only(self) -> bool:
        """Whether the gain is claimed on the evaluation alone, as the lab has no holdout."""
        return self.outcome == "kept" and self.holdout == "none"


class Assessment(Record):
    """The verdict, the comparisons behind it, and how far each criterion was met."""

    verdict: Verdict | None
    reason: str
    comparisons: tuple[Comparison, ...] = ()
    criteria: dict[str, Literal["target", "acceptable", "below_acceptable", "failed", "unmeasured"]] = {}


class Results(Record):
    """The outcome of an iteration's experiment."""

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/results.yaml"

    experiment_id: str
    iteration_id: str
    run_id: str
    status: Literal["completed", "failed"]
    results: SubExperiments
    findings: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    artifacts: tuple[str, ...] = ()
    error: str | None = None
    assessment: Assessment
    confirmation: Confirmation | None = None
    recommendation: Recommendation


class Summary(Record):
    """The model as its code reports it in a separate process: number of parameters, and shapes."""

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/summary.json"

    parameters: Count
    layers: tuple[dict[str, JsonValue], ...] = ()
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()


class Assembler(Record):
    """Who wrote the candidate's code."""

    via: str


class PlanningDecision(Record):
    """What the loop does next, and why. `next_config` is the model that a refinement is to try."""

    action: Decision
    reason: str
    next_config: dict[str, JsonValue] | None = None


class Reply(Record):
    """The file of one reply of the researcher, and its hash."""

    stage: str
    ask: int
    path: str
    sha256: str


class IterationRecord(Record):
    """One iteration as the registry lists it, with the paths of all replies."""

    FILE: ClassVar[str] = "experiments/<ITERATION_ID>/record.json"

    run_id: str | None
    iteration: int
    iteration_id: str
    hypothesis_id: str
    timestamp: str
    model_settings: dict[str, JsonValue] = Field(alias="model_config")
    assembler: Assembler
    llm_response: tuple[Reply, ...]
    code_path: str
    code_checksum: str
    commit: str
    summary: Summary | None
    eval_metrics: dict[str, float]
    status: Literal["completed", "failed"]
    verdict: Verdict | None
    outcome: str | None = None
    evaluation_only: bool = False
    """Kept, and claimed on the evaluation alone: the lab has no holdout."""
    planning_decision: PlanningDecision


class Lesson(Record):
    """What one iteration showed. The researcher who proposes the next one reads it.

    `gain` is the paired difference of the leading variant (positive is better). `measured` and `baseline` are the means
    of the primary metric with a 95% interval; `measured` is that of fresh seeds if the variant was kept. `seconds` and
    `baseline_seconds` are the mean times of their trials.
    """

    iteration: Count
    iteration_id: str
    hypothesis_id: str
    title: str
    family: str | None
    changes: dict[str, JsonValue]
    code_change: str = ""
    """The lines that its code changes, in short, where `changes` does not say it."""
    base: str
    commit: str | None
    status: Literal["completed", "failed"]
    verdict: Verdict | None
    outcome: str | None = None
    evaluation_only: bool = False
    """Kept, and claimed on the evaluation alone: the lab has no holdout."""
    reason: str
    error: str = ""
    """The last lines of what went wrong, if the idea failed."""
    delta: float
    gain: Interval | None = None
    measured: Interval | None = None
    baseline: Interval | None = None
    seconds: float | None = None
    baseline_seconds: float | None = None
    decision: Decision
