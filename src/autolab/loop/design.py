"""Stage design: the claim becomes arms, seeds and a rule, all fixed before the first trial."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from autolab.errors import RecordError
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
from autolab.loop.request import Requests, output_of, source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.researchers.assembler import blueprint
from autolab.stats.plan import plan_design
from autolab.trials.progress import View
from autolab.verifiers import design_checks


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    carry_hypothesis(iteration)
    claim, config = iteration.hypothesis(), iteration.config
    values = {
        "hypothesis_md": iteration.quote(iteration.paths.hypothesis),
        "config": config.to_yaml(),
        "history": iteration.history(),
        "method": blueprint.description(iteration.read_base),
        "files": source_for_prompt(iteration.lab, config, iteration.base_commit, claim.to_yaml()),
    }
    output = output_of(requests.send(iteration, RequestKind.DESIGN, values), DesignOutput)
    if isinstance(output, StageResult):
        return output
    try:
        spec = _design_of(iteration, claim, output)
        plan_design(spec, config, claim, b"", "", "")
    except RecordError as error:
        return StageResult(StageOutcome.RETRY, str(error))
    problem = blueprint.unfit(iteration.read_base, spec.model, iteration.slug)
    if problem:
        return StageResult(StageOutcome.RETRY, f"design: {problem}")
    findings = _blocking_findings(iteration, spec, claim)
    if findings:
        return _refused(findings, iteration.state.stage_attempt)
    iteration.write(iteration.paths.design, spec.to_yaml())
    arms = ", ".join(arm.name for arm in (*spec.baselines, *spec.variants))
    view(f"{spec.id}: {arms} over {_seeds(spec)}")
    return StageResult(StageOutcome.COMPLETE)


def _refused(findings: list[Finding], attempt: int) -> StageResult:
    """Another attempt; or a stop, if nothing but the budget refuses a design that was to be made smaller already."""
    if attempt > 1 and all(finding.check == "budget" for finding in findings):
        return StageResult(StageOutcome.STOP, f"budget: {findings[0].message}")
    return StageResult(StageOutcome.RETRY, "; ".join(finding.message for finding in findings))


def _design_of(iteration: Iteration, claim: Hypothesis, output: DesignOutput) -> Design:
    """The reply as a design, with what it leaves out from hypothesis and lab. RecordError: it is not a valid design."""
    config, campaign = iteration.config, iteration.campaign
    metrics = DesignMetrics(
        primary=claim.metric,
        secondary=output.secondary or config.metric.report,
        success_delta=output.success_delta or claim.success_delta,
        direction=claim.direction,
    )
    bound = _bound(config, iteration.calibration(), claim.metric)
    value: dict[str, Any] = output.model_dump(mode="json", exclude={"secondary", "success_delta", "seeds"})
    value |= {
        "id": campaign.experiment_id,
        "iteration_id": iteration.iteration_id,
        "hypothesis_id": claim.id,
        "entrypoint": Entrypoint(command=config.train.command).value(),
        "reproducibility": {"seeds": output.model_dump(mode="json")["seeds"]},
        "metrics": metrics.value(),
        "test": config.test.value() | {"bound": bound},
        "base_commit": campaign.base_commit,
    }
    if output.seeds is None:
        value["reproducibility"] = {"seeds": {"max_pairs": config.test.max_pairs}}
    value["model"], value["changes"] = _model(claim, output)
    return Design.from_value(value, iteration.relative(iteration.paths.design))


def _bound(config: Config, calibration: Calibration | None, metric: str) -> float | None:
    """The worst score that counts, fixed here, before the run. A metric that is not the lab's has none."""
    if metric != config.metric.primary:
        return None
    if config.test.bound is not None or calibration is None or calibration.metric != metric:
        return config.test.bound
    return calibration.bound


def fix_bound(iteration: Iteration) -> None:
    """Write the bound into a design that was made before the lab was calibrated; nothing once a search has begun."""
    spec = iteration.design()
    searches = [run for run in iteration.recorded(RunStarted) if run.kind is RunKind.SEARCH]
    # A design that changes after its run has begun would be another experiment.
    if searches or spec.test is None or spec.test.bound is not None:
        return
    bound = _bound(iteration.config, iteration.calibration(), spec.metrics.primary)
    if bound is not None:
        test = spec.test.model_copy(update={"bound": bound})
        iteration.write(iteration.paths.design, spec.model_copy(update={"test": test}).to_yaml())


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
    findings = design_checks.design_checks(
        spec,
        claim,
        iteration.config,
        lambda path: git.has_path(base, path) is not None,
        trials_spent=iteration.campaign.trials,
    )
    return [finding for finding in findings if finding.severity == "blocking"]


def _seeds(spec: Design) -> str:
    """The number of seeds, for people. The rule may stop before all that the lab draws are used."""
    seeds = spec.reproducibility.seeds
    return f"at most {seeds.max_pairs} seeds" if isinstance(seeds, MaxPairs) else f"{len(seeds)} seeds"
