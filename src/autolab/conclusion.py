"""From a reviewed commit to what is next: launch (measure), extract_results, update_docs, decide_repeat.

Numbers come from the evaluator and from statistics; the researcher is asked for words and for a wish.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from autolab import accounts, analysis, budget, candidate, documents, durable, experiment, fault, rig, runs, verifiers
from autolab.desk import Desk, Result, ask
from autolab.errors import UsageError
from autolab.lab import Lab
from autolab.records.experiment import (
    Assembler,
    IterationRecord,
    Manifest,
    PlanningDecision,
    Reply,
    Results,
    RunMetrics,
    Summary,
)
from autolab.records.lab import Campaign, Config, Stage, Supported
from autolab.records.outcomes import Decision, Verdict
from autolab.records.replies import DecisionOutput, DocsOutput
from autolab.stages import Outcome

# launch


def launch(desk: Desk) -> Result | None:
    """Measure behind the gate; None if the person asked to stop before the run was judged."""
    forbidden = candidate.gate(desk)
    if forbidden:
        return Result(Outcome.SEND_BACK, f"launch is forbidden: {forbidden}")
    order = _order(desk)
    cells = _cells(desk)
    short = budget.spent_within(desk.config.budget, desk.campaign, cells - _counted(desk))
    if short:
        return Result(Outcome.STOP, f"budget: {short}")
    measured = runs.measure(order)
    desk.restore()
    _write_script(desk)
    counts = {"trials": desk.campaign.trials + _executed(desk)}
    state = {"last_run_id": measured.run_id, "sync_status": "ok"}
    match measured.ending:
        case runs.Ending.PARKED:
            return None
        case runs.Ending.DONE:
            return Result(Outcome.COMPLETE, "", counts, state)
        case runs.Ending.CODE:
            assert measured.manifest is not None
            _queue_rows(desk, measured.manifest, None)
            return Result(Outcome.SEND_BACK, f"{measured.run_id}: {measured.reason}", counts, state)
        case runs.Ending.SYNC:
            return Result(Outcome.RETRY, measured.reason, counts, state | {"sync_status": "failed"})
        case runs.Ending.INFRASTRUCTURE:
            return Result(Outcome.RETRY, measured.reason, counts, state | {"sync_status": "pending"})
        case runs.Ending.BASELINE:
            reason = f"{measured.run_id}: the baseline itself fails, which no candidate can mend: {measured.reason}"
            return Result(Outcome.ESCALATE, reason, counts, state)
        case runs.Ending.TAMPERED:
            return Result(Outcome.ESCALATE, f"{measured.run_id}: {measured.reason}", counts, state)


def _order(desk: Desk) -> runs.Order:
    commit = desk.candidate() or ""
    return runs.Order(
        lab=desk.lab,
        config=desk.config,
        iteration_id=desk.iteration_id,
        design=desk.design(),
        hypothesis=desk.hypothesis(),
        base=desk.campaign.base_commit or "",
        candidate=commit,
        checks=candidate.checked(desk, commit)["checks"],
        events=desk.events(),
        acted=desk.acted,
        tell=desk.tell,
        stop=desk.stop,
    )


def _cells(desk: Desk) -> int:
    plan = experiment.plan(desk.design(), desk.config, desk.hypothesis(), b"", "", "")
    return len(experiment.cells(plan))


def _counted(desk: Desk) -> int:
    """Trials of the run under way that cost nothing any more: counted by the campaign already, or reused."""
    events = desk.events()
    over = {line.data["run_id"] for line in events if line.event == "run_ended" and line.n < desk.acted}
    known = [line for line in events if line.event == "trial" and line.data["run_id"] not in over]
    return sum(1 for line in known if line.n < desk.acted or line.data["trial"]["reused_from"] is not None)


def _executed(desk: Desk) -> int:
    """Trials brought to an end since the newest transition, by the ledger: the same after a crash."""
    since = [line for line in desk.events() if line.event == "trial" and line.n > desk.acted]
    return sum(1 for line in since if line.data["trial"]["reused_from"] is None)


def _write_script(desk: Desk) -> None:
    """`launch/run_local.sh`: one trial of the candidate by hand, for a person who wants to look."""
    command = rig.train_command(desk.design(), desk.config).replace("{python}", desk.lab.python(desk.config))
    data = f'export AUTOLAB_DATA="$PWD/{desk.config.data}"\n' if desk.config.data else ""
    text = (
        "#!/bin/sh\n# One training of this candidate by hand, outside of the record; from the lab's folder.\nset -eu\n"
        f'export AUTOLAB_SEED="${{AUTOLAB_SEED:-0}}" AUTOLAB_TRIAL_DIR="$(mktemp -d)"\n{data}'
        'export AUTOLAB_CONFIG="$AUTOLAB_TRIAL_DIR/config.json"\necho "{}" > "$AUTOLAB_CONFIG"\n'
        f'echo "files go to $AUTOLAB_TRIAL_DIR"\ncd "{desk.shown(desk.worktree)}"\nexec {command}\n'
    )
    desk.write(desk.paths.launch_script, text)


# extract_results


def extract(desk: Desk) -> Result:
    """Tables, figures and results.yaml from the manifest."""
    manifest = _manifest(desk)
    findings = verifiers.results_sanity(manifest, desk.design())
    blocking = [finding.message for finding in findings if finding.severity == "blocking"]
    if blocking:
        return Result(Outcome.ESCALATE, f"results are not sane: {'; '.join(blocking)}")
    extracted = analysis.extract(desk.paths.folder, manifest, desk.design(), desk.hypothesis())
    fault.point("extract.after_write")
    for finding in findings:
        desk.tell(f"note: {finding.message}")
    verdict = extracted.results.assessment.verdict
    if verdict is not None:
        desk.tell(f"verdict: {verdict}{', unconfirmed' if verdict is Verdict.SUPPORTED else ''}")
    for comparison in extracted.metrics.comparisons:
        d = comparison.difference
        bounds = f" [{d.low:.4g}, {d.high:.4g}]" if d.low is not None and d.high is not None else ""
        why = f" ({comparison.reason})" if comparison.reason else ""
        desk.tell(f"  {comparison.arm} against {comparison.baseline}: {comparison.verdict}{why}")
        desk.tell(f"  gain {d.mean:+.4g}{bounds} in {comparison.metric} over {d.n} pairs")
    return Result(Outcome.COMPLETE)


def _manifest(desk: Desk) -> Manifest:
    path = desk.paths.run(desk.state.last_run_id or "").manifest
    return desk.load(Manifest, path)


def _metrics(desk: Desk) -> RunMetrics:
    path = desk.paths.run(desk.state.last_run_id or "").folder / "metrics.json"
    return desk.load(RunMetrics, path)


def _results(desk: Desk) -> Results:
    return desk.load(Results, desk.paths.results)


# update_docs


def update_docs(desk: Desk) -> Result:
    """The researcher's words about the numbers, into the documents of the checkout."""
    targets = desk.config.docs.paper_targets
    values = {
        "summary_md": desk.paths.summary.read_text(encoding="utf-8"),
        "results_yaml": _results(desk).to_yaml(),
        "paper_targets": "\n".join(targets),
    }
    output = candidate.answered(ask(desk, values), DocsOutput)
    if isinstance(output, Result):
        return output
    required = targets if desk.policy.require_docs_target_update or output.paper else ()
    wrong = verifiers.docs_answer(output, required)
    if wrong:
        return Result(Outcome.RETRY, "; ".join(finding.message for finding in wrong))
    account = accounts.Account(
        iteration_id=desk.iteration_id,
        slug=desk.slug,
        hypothesis=desk.hypothesis(),
        design=desk.design(),
        results=_results(desk),
        docs=output,
        manifest=_manifest(desk),
        metrics=_metrics(desk),
    )
    _queue(desk, account)
    return Result(Outcome.COMPLETE)


def _queue(desk: Desk, account: accounts.Account) -> None:
    """Put this iteration's entries in line for the checkout; its own two files are written at once."""
    assert account.manifest is not None
    template = desk.lab.root / "9_reports" / "_TEMPLATE.md"
    entries = [
        accounts.journal_entry(account),
        accounts.findings_entry(account),
        accounts.report(account, template.read_text(encoding="utf-8") if template.exists() else None),
        *accounts.paper_entries(account, desk.config.docs.paper_targets),
    ]
    rows = accounts.tsv_rows(
        account.manifest, account.metrics, account.design.metrics.primary, account.hypothesis.title
    )
    for own in (accounts.iteration_findings(account), accounts.docs_update(account, [*entries, rows])):
        desk.write(desk.lab.root / own.path, own.text)
    pending = documents.Pending(desk.lab.store / "pending")
    for entry in (*entries, rows):
        pending.add(entry)


def _queue_rows(desk: Desk, manifest: Manifest, metrics: RunMetrics | None) -> None:
    rows = accounts.tsv_rows(manifest, metrics, manifest.metric or desk.config.metric.primary, desk.hypothesis().title)
    documents.Pending(desk.lab.store / "pending").add(rows)


def write_documents(lab: Lab, campaign: Campaign, tell: Callable[[str], None]) -> None:
    """Bring what waits into the checkout, if it stands on the lab's branch; note what somebody else changed."""
    pending = documents.Pending(lab.store / "pending")
    waiting = pending.waiting()
    if not waiting:
        return
    away = lab.away(campaign)
    if away:
        tell(f"{len(waiting)} document entries wait: {away}")
        return
    known_path = lab.documents_path
    known = json.loads(known_path.read_text(encoding="utf-8")) if known_path.exists() else {}
    for entry in waiting:
        written = documents.write(lab.root, entry)
        fault.point("document.after_write")
        if written.changed and known.get(entry.path, written.sha256_before) != written.sha256_before:
            lab.ledger.append("document_edited", {"path": entry.path, "sha256": written.sha256_before})
            tell(f"{entry.path}: was changed outside of the loop; the entry stands above that text")
        known[entry.path] = written.sha256_after
        durable.write(known_path, json.dumps(known))
        said = {"path": entry.path, "entry": entry.id, "sha256": written.sha256_after}
        if written.closed is not None:
            said |= {"closed": written.closed.path, "closed_sha256": written.closed.sha256}
        lab.ledger.append("document_written", said)
        pending.forget(entry)


# decide_repeat


def decide(desk: Desk) -> Result:
    """What the researcher wishes to do next, held against what was measured."""
    values = {
        "summary_md": desk.paths.summary.read_text(encoding="utf-8"),
        "target": _target_text(desk) or "none",
        "history": candidate.history(desk),
    }
    output = candidate.answered(ask(desk, values), DecisionOutput)
    if isinstance(output, Result):
        return output
    if output.decision is Decision.ACHIEVE:
        refused = _not_achieved(desk)
        if refused:
            return Result(Outcome.RETRY, f"achieve is refused: {refused}")
    analysis.append_decision(desk.paths.folder, output.decision, output.reason)
    fault.point("decide.after_write")
    desk.write(desk.paths.record, _record(desk, output).to_json())
    desk.tell(f"decision: {output.decision}, {output.reason}")
    outcomes = {
        Decision.REFINE: Outcome.REFINE,
        Decision.NEW_HYPOTHESIS: Outcome.NEW_HYPOTHESIS,
        Decision.ACHIEVE: Outcome.STOP,
        Decision.STOP: Outcome.STOP,
        Decision.HUMAN_REVIEW: Outcome.ESCALATE,
    }
    return Result(outcomes[output.decision], f"{output.decision}: {output.reason}", _remember(desk, output))


def _remember(desk: Desk, output: DecisionOutput) -> dict[str, object]:
    """The campaign after this iteration: the newest supported candidate, and how long ago a gain was."""
    results, campaign = _results(desk), desk.campaign
    gained = results.assessment.verdict is Verdict.SUPPORTED
    update: dict[str, object] = {"parent": desk.iteration_id}
    if gained:
        lead = max(results.assessment.comparisons, key=lambda c: c.difference.mean)
        means = {name: value.mean for name, value in _metrics(desk).arms.get(lead.arm, {}).items()}
        update["best"] = Supported(
            iteration_id=desk.iteration_id,
            commit=desk.candidate() or "",
            metrics=means,
            home_commit=desk.campaign.home_commit,
        )
    if campaign.loop is not None:
        since = 0 if gained else campaign.loop.since_gain + 1
        update["loop"] = campaign.loop.model_copy(update={"since_gain": since})
    return update


def _target_text(desk: Desk) -> str | None:
    loop = desk.campaign.loop
    return loop.target if loop and loop.target else desk.config.target


def _not_achieved(desk: Desk) -> str:
    """Why the target does not count as achieved; empty if a supported arm's measured mean meets it."""
    text = _target_text(desk)
    if text is None:
        return "there is no target; give one with --target or in config.yaml"
    metric, sign, bound = target(text, desk.config)
    results = _results(desk)
    if results.assessment.verdict is not Verdict.SUPPORTED:
        return f"the verdict is {results.assessment.verdict or results.status}, the target needs a supported candidate"
    lead = max(results.assessment.comparisons, key=lambda c: c.difference.mean)
    found = _metrics(desk).arms.get(lead.arm, {}).get(metric)
    if found is None:
        return f"{metric} was not measured"
    met = found.mean >= bound if sign == ">=" else found.mean <= bound
    return "" if met else f"{metric} is {found.mean:.6g}, the target is {sign} {bound:g}"


def target(text: str, config: Config) -> tuple[str, str, float]:
    """Metric, `>=` or `<=`, and bound of a target; a bare number means the primary metric in its direction."""
    found = re.fullmatch(
        r"\s*(?:([A-Za-z_][\w.]*)\s*(>=|<=)\s*)?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", text, re.A
    )
    if not found:
        raise UsageError(f"target: {text!r} is not understood; write METRIC>=NUMBER, METRIC<=NUMBER or a number")
    metric = found[1] or config.metric.primary
    known = (config.metric.primary, *config.metric.report)
    if metric not in known:
        raise UsageError(f"target: {metric} is not measured in this lab; measured: {', '.join(known)}")
    sign = found[2] or (">=" if config.metric.direction == "maximize" else "<=")
    return metric, sign, float(found[3])


def _record(desk: Desk, output: DecisionOutput) -> IterationRecord:
    """The iteration as the registry shows it."""
    results, spec = _results(desk), desk.design()
    replies = [line.data for line in desk.events() if line.event == "answered"]
    lead = spec.variants[0]
    means = {name: value.mean for name, value in _metrics(desk).arms.get(lead.name, {}).items()}
    commit = desk.candidate() or ""
    summary = desk.paths.summary_json
    return IterationRecord(
        run_id=desk.state.last_run_id,
        iteration=desk.campaign.iterations,
        iteration_id=desk.iteration_id,
        hypothesis_id=desk.campaign.hypothesis_id or "",
        timestamp=durable.utc_now(),
        model_settings={**(spec.model or {}), **spec.train, **lead.config_overrides},
        assembler=Assembler(via=desk.researcher.name),
        llm_response=tuple(
            Reply(stage=d["stage"], ask=d["number"], path=d["reply"], sha256=d["sha256"]) for d in replies
        ),
        code_path=f"exp/{desk.slug}",
        code_checksum=desk.lab.git.tree(commit),
        commit=commit,
        summary=desk.load(Summary, summary) if summary.exists() else None,
        eval_metrics=means,
        status=results.status,
        verdict=results.assessment.verdict,
        planning_decision=PlanningDecision(action=output.decision, reason=output.reason),
    )


def failure_report(desk: Desk, stage: Stage, reason: str) -> str:
    """What a person needs to settle what the loop could not."""
    ways = ["`autolab review retry` tries the stage again", "`autolab review stop` ends the campaign"]
    if stage is Stage.IMPLEMENTATION_REVIEW:
        ways.insert(0, "`autolab review approve` launches it on your word, if the required checks passed")
    kept = f"the candidate is on branch `exp/{desk.slug}`" if desk.candidate() else "there is no candidate yet"
    return (
        "\n\n".join(
            [
                f"# {desk.iteration_id} waits for a person",
                f"Stage {stage}, attempt {desk.state.stage_attempt}, sent back {desk.state.bounces} times.",
                reason,
                f"Nothing was reset; {kept}. Prompts, replies and check logs: `{_logs(desk)}`.",
                "## Ways on",
                "\n".join(f"- {way}" for way in ways),
            ]
        )
        + "\n"
    )


def _logs(desk: Desk) -> Path:
    return desk.lab.logs(desk.iteration_id).relative_to(desk.lab.root)
