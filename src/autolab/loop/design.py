"""Stage design: the claim becomes arms, seeds and a rule, all fixed before the first trial."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.ideas import past_ideas
from autolab.ideas.lessons import families_of_lessons
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import RunStarted
from autolab.lab.schemas.experiment import (
    Calibration,
    Design,
    DesignMetrics,
    Entrypoint,
    Finding,
    Hypothesis,
    MaxPairs,
)
from autolab.lab.schemas.outcomes import RequestKind, RunKind
from autolab.lab.schemas.replies import DesignOutput
from autolab.loop.hypothesis import carry_hypothesis, proposed_model
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, output_of
from autolab.loop.stage_prompt import source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.researchers.assembler import blueprint
from autolab.stats.plan import plan_design
from autolab.trials.progress import View
from autolab.verifiers import design_checks


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    carry_hypothesis(iteration)
    claim = iteration.hypothesis()
    reply = requests.send(iteration, RequestKind.DESIGN, prompt_values(iteration))
    output = output_of(reply, DesignOutput)
    if isinstance(output, StageResult):
        return output
    try:
        spec = _design_of(iteration, claim, output)
        # A design that gives no plan is refused now, not at launch. No seed is drawn for that, so no secret is needed.
        plan_design(spec, iteration.config, claim, b"", "", "")
    except RecordError as error:
        return StageResult(StageOutcome.RETRY, str(error))
    problem = blueprint.unfit(iteration.read_base, spec.model, iteration.slug)
    if problem:
        return StageResult(StageOutcome.RETRY, f"design: {problem}")
    findings = _blocking_findings(iteration, spec, claim)
    if findings:
        return _refused(findings, iteration.state.stage_attempt)
    iteration.write(iteration.paths.design, spec.to_yaml())
    names = [arm.name for arm in (*spec.baselines, *spec.variants)]
    view(f"{spec.id}: {', '.join(names)} over {_seeds(spec)}")
    return StageResult(StageOutcome.COMPLETE)


def prompt_values(iteration: Iteration) -> dict[str, str]:
    """What the prompt of this stage quotes."""
    config, claim = iteration.config, iteration.hypothesis()
    source = source_for_prompt(iteration.lab, config, iteration.base_commit, claim.to_yaml())
    return {
        "hypothesis_md": iteration.quote(iteration.paths.hypothesis),
        "config": config.to_yaml(),
        "history": _history_of_family(iteration, claim),
        "method": blueprint.description(iteration.read_base),
        "files": source,
    }


def _history_of_family(iteration: Iteration, claim: Hypothesis) -> str:
    """What was tried of the claim's family: the author of a design has no use for more."""
    families = set(families_of_lessons(claim.family))
    related = []
    for lesson in iteration.lessons():
        if lesson.hypothesis_id == claim.id or families & set(families_of_lessons(lesson.family)):
            related.append(lesson)
    return past_ideas.history(related) if related else "Nothing of this family was tried yet."


def _refused(findings: list[Finding], attempt: int) -> StageResult:
    """Another attempt; or a stop, if nothing but the budget refuses a design that was to be made smaller already."""
    only_budget = all(finding.check == "budget" for finding in findings)
    # More attempts at a lab that cannot pay for any design would only cost more.
    if only_budget and attempt > 1:
        return StageResult(StageOutcome.STOP, f"budget: {findings[0].message}")
    messages = [finding.message for finding in findings]
    return StageResult(StageOutcome.RETRY, "; ".join(messages))


def _design_of(iteration: Iteration, claim: Hypothesis, output: DesignOutput) -> Design:
    """The reply as a design, with what it leaves out from hypothesis and lab. RecordError: it is not a valid design."""
    config, campaign = iteration.config, iteration.campaign
    metrics = DesignMetrics(
        primary=claim.metric,
        secondary=output.secondary or config.metric.report,
        success_delta=output.success_delta or claim.success_delta,
        direction=claim.direction,
    )
    value: dict[str, Any] = output.model_dump(mode="json")
    del value["secondary"], value["success_delta"]
    seeds = value.pop("seeds")
    # Without seeds in the reply the lab draws them, which the author then cannot choose.
    if output.seeds is None:
        seeds = {"max_pairs": config.test.max_pairs}
    value["id"] = campaign.experiment_id
    value["iteration_id"] = iteration.iteration_id
    value["hypothesis_id"] = claim.id
    value["base_commit"] = campaign.base_commit
    # Command and test are the lab's: the reply has no say in how it is measured and judged.
    value["entrypoint"] = Entrypoint(command=config.train.command).value()
    value["test"] = config.test.stopping_rule.value() | {"bound": _bound(config, iteration.calibration(), claim.metric)}
    value["metrics"] = metrics.value()
    value["reproducibility"] = {"seeds": seeds}
    value["model"], value["changes"] = _model(claim, output)
    return Design.from_value(value, iteration.relative(iteration.paths.design))


def _bound(config: Config, calibration: Calibration | None, metric: str) -> float | None:
    """The worst score that counts, fixed here, before the run. A metric that is not the lab's has none."""
    if metric != config.metric.primary:
        return None
    bound = config.test.bound
    # The user's bound comes before the measured one.
    if bound is None and calibration is not None and calibration.metric == metric:
        return calibration.bound
    return bound


def fix_bound(iteration: Iteration) -> None:
    """Write the bound into a design that was made before the lab was calibrated; nothing once a search has begun."""
    spec = iteration.design()
    test = spec.test
    searched = any(run.kind is RunKind.SEARCH for run in iteration.recorded(RunStarted))
    # A design that changes after its run has begun would be another experiment.
    if searched or test is None or test.bound is not None:
        return
    bound = _bound(iteration.config, iteration.calibration(), spec.metrics.primary)
    if bound is None:
        return
    test = test.model_copy(update={"bound": bound})
    spec = spec.model_copy(update={"test": test})
    iteration.write(iteration.paths.design, spec.to_yaml())


def _model(claim: Hypothesis, output: DesignOutput) -> tuple[dict[str, JsonValue] | None, dict[str, JsonValue]]:
    """The candidate's model, completed by the hypothesis; and the changes against the base, for the record."""
    model = proposed_model(claim) | (output.model or {})
    changes = output.changes or claim.changes
    # A model that is the only change is recorded as the design has it, and not as the hypothesis proposed it.
    if blueprint.MODEL in model and set(changes) <= {blueprint.MODEL}:
        changes = {blueprint.MODEL: model[blueprint.MODEL]}
    return model or None, changes


def _blocking_findings(iteration: Iteration, spec: Design, claim: Hypothesis) -> list[Finding]:
    base, git = iteration.base_commit, iteration.lab.git

    def exists(path: str) -> bool:
        return git.has_path(base, path) is not None

    trials = iteration.campaign.trials
    findings = design_checks.design_checks(spec, claim, iteration.config, exists, trials_spent=trials)
    return [finding for finding in findings if finding.severity == "blocking"]


def _seeds(spec: Design) -> str:
    """The number of seeds, for people. The rule may stop before all that the lab draws are used."""
    seeds = spec.reproducibility.seeds
    if isinstance(seeds, MaxPairs):
        return f"at most {seeds.max_pairs} seeds"
    return f"{len(seeds)} seeds"
