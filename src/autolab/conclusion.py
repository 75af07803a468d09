"""From a reviewed commit to what is next: launch (measure), extract_results, update_docs, decide_repeat.

Numbers come from the evaluator and from statistics; the researcher is asked for words and for a wish.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path

from autolab import (
    accounts,
    analysis,
    blueprint,
    budget,
    calibration,
    candidate,
    champion,
    documents,
    durable,
    experiment,
    fault,
    figures,
    lessons,
    meanings,
    passages,
    quarantine,
    rig,
    runs,
    stats,
    suspicion,
    target,
    verifiers,
)
from autolab.board import Judged
from autolab.desk import Desk, Result, ask, quoted
from autolab.lab import Lab
from autolab.markup import inert
from autolab.records.experiment import (
    Assembler,
    Confirmation,
    Interval,
    IterationRecord,
    Lesson,
    Manifest,
    PlanningDecision,
    Reply,
    Results,
    RunMetrics,
    Summary,
    Trial,
)
from autolab.records.lab import Campaign, Champion, Config, Stage
from autolab.records.outcomes import Decision, RunKind, Verdict
from autolab.records.outcomes import Outcome as TrialOutcome
from autolab.records.replies import DecisionOutput, DocsOutput
from autolab.scores import Scale
from autolab.stages import Outcome
from autolab.text import many_lines

# launch


def launch(desk: Desk) -> Result | None:
    """Measure behind the gate; None if the person asked to stop before the run was judged."""
    forbidden = candidate.gate(desk)
    if forbidden:
        return Result(Outcome.SEND_BACK, f"launch is forbidden: {forbidden}")
    candidate.fix_bound(desk)
    left = _left(desk, RunKind.SEARCH)
    planned = experiment.plan(desk.design(), desk.config, desk.hypothesis(), b"", "", "")
    short = budget.spent_within(desk.config.budget, desk.campaign)
    if short or experiment.within(planned, left) is None:
        short = short or _short(desk, len(experiment.cells(planned)), left)
        return Result(Outcome.STOP, f"budget: {short}")
    order = _order(desk, left)
    search = runs.measure(order)
    if search.ending is not runs.Ending.DONE:
        return _measured(desk, search, search.run_id)
    assert search.manifest is not None
    desk.restore()  # what a person cleaned away while trials ran
    found = champion.lead(search.manifest, desk.design(), desk.hypothesis())
    return _confirm(desk, search.manifest, *found) if found else _measured(desk, search, search.run_id)


def _confirm(desk: Desk, search: Manifest, plan: experiment.Plan, variant: str) -> Result | None:
    """A supported variant once more on fresh seeds; the claim counts in the campaign whatever comes of it."""
    left, taken = _left(desk, RunKind.CONFIRM), max(one.pairs or 0 for one in search.comparisons)
    tested = champion.rule(desk.config, plan.rule or desk.config.test, desk.campaign.claims)
    again = champion.plan(_order(desk), plan, variant, tested, left)
    # As many pairs again as the search took may not do: chance made them few.
    if again is None or len(again.seeds) < min(2 * taken, champion.pairs(plan, desk.config)):
        desk.tell(f"{variant} is supported, and not confirmed: the budget ends here")
        short = _short(desk, 2 * champion.pairs(plan, desk.config), left)
        return Result(Outcome.STOP, f"budget: {short}", _executed(desk))
    order, claims = _order(desk), desk.campaign.claims
    desk.tell(f"{variant} is supported: measured again on fresh seeds, beside a fresh baseline")
    path = desk.paths.run(search.run_id).manifest
    made = path.read_text(encoding="utf-8")
    measured = champion.measure(order, again)
    durable.write(path, made)  # no state holds it yet: a person may have cleaned it away meanwhile
    if measured.ending is not runs.Ending.DONE or measured.manifest is None:
        return _measured(desk, measured, search.run_id)
    desk.restore()
    passed = champion.lead(measured.manifest, desk.design(), desk.hypothesis()) is not None
    both = (search, measured.manifest)
    doubts = suspicion.reasons(both, desk.design(), calibration.current(desk.lab), variant)
    found = champion.conclude(_order(desk), search, measured.manifest, claims, passed, doubts)
    counted = champion.after(claims, found, measured.manifest.epoch)
    result = _measured(desk, measured, search.run_id)
    return result and dataclasses.replace(result, campaign=result.campaign | {"claims": counted})


def _left(desk: Desk, kind: RunKind) -> int | None:
    """Trials that the budget allows the run of this kind, from its first on: the same at each look at it."""
    allowed, known = desk.config.budget.trials, calibration.current(desk.lab)
    priced = budget.trials_left(
        desk.config.budget, desk.campaign, desk.config.train.gpus, known.seconds if known else None
    )
    caps = [cap for cap in (None if allowed is None else allowed - desk.campaign.trials, priced) if cap is not None]
    if not caps:
        return None
    events = runs.lines_of(desk.events(), [kind])
    over = {line.data["run_id"] for line in events if line.event == "run_ended" and line.n < desk.acted}
    begun = [line.data for line in events if line.event == "run_started" and line.data["kind"] == kind]
    mine = {data["run_id"] for data in begun} - over
    done = [line for line in events if line.event == "trial" and line.data["trial"]["reused_from"] is None]
    counted = sum(line.data["run_id"] in mine and line.n < desk.acted for line in done)
    others = sum(line.data["run_id"] not in mine and line.n > desk.acted for line in done)
    return min(caps) - others + counted


def _short(desk: Desk, wanted: int, left: int | None) -> str:
    cap = desk.config.budget
    allowed = [f"budget.{name} {value:g}" for name in ("trials", "gpu_hours") if (value := getattr(cap, name))]
    return f"trials: {wanted} wanted, {left} left by {' and '.join(allowed)}"


def _measured(desk: Desk, measured: runs.Measured, shown: str) -> Result | None:
    """What an ended run means for the stage; `shown` is the run that the next stage reads."""
    desk.restore()
    _write_script(desk)
    counts = _executed(desk)
    state = {"last_run_id": shown, "sync_status": "ok"}
    if measured.manifest is not None and measured.manifest.status == "failed":
        _queue_rows(desk, measured.manifest, None)
    match measured.ending:
        case runs.Ending.PARKED:
            return Result(Outcome.STOP, f"budget: wall_hours: {_hours(desk)}", counts) if desk.late() else None
        case runs.Ending.DONE:
            return Result(Outcome.COMPLETE, "", counts, state)
        case runs.Ending.CODE:
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


def _order(desk: Desk, left: int | None = None) -> runs.Order:
    commit, spec, lab = desk.candidate() or "", desk.design(), desk.lab
    base_tree = lab.git.tree(desk.campaign.base_commit or "")

    def plan(setup: rig.Rig) -> experiment.Plan:
        whole = experiment.plan(spec, desk.config, desk.hypothesis(), lab.secret, setup.epoch, base_tree)
        return experiment.within(whole, left) or whole

    return runs.Order(
        lab=lab,
        config=desk.config,
        iteration_id=desk.iteration_id,
        plan=plan,
        command=rig.train_command(spec, desk.config),
        design_sha256=durable.sha256(spec.to_yaml()),
        base=desk.campaign.base_commit or "",
        candidate=commit,
        checks=candidate.checked(desk, commit)["checks"],
        events=desk.events(),
        acted=desk.acted,
        tell=desk.tell,
        stop=lambda: desk.stop() or desk.late(),
    )


def _hours(desk: Desk) -> str:
    return f"{desk.config.budget.wall_hours:g} are over"


def _executed(desk: Desk) -> dict[str, object]:
    """The campaign's counts with the trials brought to an end since the newest transition: the same after a crash."""
    gpus = desk.config.train.gpus
    return runs.counted(desk.events(), RunKind.SEARCH, desk.acted, desk.campaign, gpus)


def _write_script(desk: Desk) -> None:
    """`launch/run_local.sh`: one trial of the candidate by hand, for a person who wants to look."""
    command = shlex.join(rig.argv_of(rig.train_command(desk.design(), desk.config), desk.lab.python(desk.config)))
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
    manifest, confirmation = _manifest(desk), _confirmation(desk)
    confirm = _manifest(desk, confirmation.run_id) if confirmation else None
    known = calibration.current(desk.lab)
    findings = verifiers.results_sanity(manifest, desk.design(), known)
    if confirm is not None:  # what is odd about its arms has been said of the search
        again = verifiers.results_sanity(confirm, desk.design(), known)
        findings += [finding for finding in again if finding.severity == "blocking"]
    blocking = [finding.message for finding in findings if finding.severity == "blocking"]
    if blocking:
        return Result(Outcome.ESCALATE, f"results are not sane: {'; '.join(blocking)}")
    extracted = analysis.extract(
        desk.paths.folder, manifest, desk.design(), desk.hypothesis(), confirmation, confirm, known
    )
    fault.point("extract.after_write")
    for note in (*(finding.message for finding in findings), *extracted.notes):
        desk.tell(f"note: {note}")
    desk.tell.judged(Judged.now(desk.hypothesis(), extracted.results))
    desk.tell(f"verdict: {meanings.standing(extracted.results)}")
    for comparison in extracted.metrics.comparisons:
        d = comparison.difference
        bounds = f" [{d.low:.4g}, {d.high:.4g}]" if d.low is not None and d.high is not None else ""
        why = f" ({comparison.reason})" if comparison.reason else ""
        desk.tell(f"  {comparison.arm} against {comparison.baseline}: {comparison.verdict}{why}")
        desk.tell(f"  gain {d.mean:+.4g}{bounds} in {comparison.metric} over {comparison.pairs} pairs")
        if comparison.bound is not None:
            desk.tell(f"  {passages.cuts(comparison)}")
    return Result(Outcome.COMPLETE)


def _confirmation(desk: Desk) -> Confirmation | None:
    return champion.recorded(desk.events(), desk.state.last_run_id)


def _manifest(desk: Desk, run_id: str | None = None) -> Manifest:
    path = desk.paths.run(run_id or desk.state.last_run_id or "").manifest
    return desk.load(Manifest, path)


def _metrics(desk: Desk, run_id: str | None = None) -> RunMetrics:
    path = desk.paths.run(run_id or desk.state.last_run_id or "").folder / "metrics.json"
    return desk.load(RunMetrics, path)


def _results(desk: Desk) -> Results:
    return desk.load(Results, desk.paths.results)


# update_docs


def update_docs(desk: Desk) -> Result:
    """The researcher's words about the numbers, into the documents of the checkout."""
    targets = desk.config.docs.paper_targets
    values = {
        "summary_md": quoted(desk, desk.paths.summary),
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
    _queue(desk, _account(desk, output))
    return Result(Outcome.COMPLETE)


def _account(desk: Desk, docs: DocsOutput | None = None) -> accounts.Account:
    about, results = desk.paths.summary_json, _results(desk)
    again = results.confirmation.run_id if results.confirmation else None
    account = accounts.Account(
        hypothesis=desk.hypothesis(),
        design=desk.design(),
        manifest=_manifest(desk),
        metrics=_metrics(desk),
        results=results,
        about=desk.load(Summary, about) if about.exists() else None,
        slug=desk.slug,
        confirm=_manifest(desk, again) if again else None,
        confirm_metrics=_metrics(desk, again) if again else None,
        calibration=calibration.current(desk.lab),
    )
    return dataclasses.replace(account, docs=docs) if docs else account


def _queue(desk: Desk, account: accounts.Account) -> None:
    """Put this iteration's entries in line for the checkout; its own two files are written at once."""
    template = desk.lab.root / "9_reports" / "_TEMPLATE.md"
    entries = [
        accounts.journal_entry(account),
        accounts.findings_entry(account),
        accounts.report(account, many_lines(template.read_bytes()) if template.is_file() else None),
        *accounts.paper_entries(account, desk.config.docs.paper_targets),
    ]
    entries += [_rows(desk, manifest, metrics, account.confirmation) for manifest, metrics in account.runs]
    for own in (accounts.iteration_findings(account), accounts.docs_update(account, entries)):
        desk.write(desk.lab.root / own.path, own.text)
    pending = documents.Pending(desk.lab.store / "pending")
    for entry in entries:
        pending.add(entry)


def _queue_rows(desk: Desk, manifest: Manifest, metrics: RunMetrics | None) -> None:
    documents.Pending(desk.lab.store / "pending").add(_rows(desk, manifest, metrics))


def _rows(
    desk: Desk, manifest: Manifest, metrics: RunMetrics | None, confirmation: Confirmation | None = None
) -> documents.Entry:
    """The run's rows, for the table that the configuration names."""
    metric = manifest.metric or desk.config.metric.primary
    rows = accounts.tsv_rows(manifest, metrics, metric, desk.hypothesis().title, confirmation)
    return dataclasses.replace(rows, path=desk.config.files.table)


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
    known = documents.known(known_path)
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
        "summary_md": quoted(desk, desk.paths.summary),
        "target": desk.target or "none",
        "standing": _standing(desk),
        "history": candidate.history(desk),
        "method": blueprint.told(candidate.in_base(desk)),
    }
    output = candidate.answered(ask(desk, values), DecisionOutput)
    if isinstance(output, Result):
        return output
    refused = _refused(desk, output)
    if refused:
        return Result(Outcome.RETRY, refused)
    analysis.append_decision(desk.paths.folder, output.decision, output.reason)
    fault.point("decide.after_write")
    desk.write(desk.paths.record, _record(desk, output).to_json())
    lessons.learn(desk.lab.store, desk.lab.ledger, _lesson(desk, output.decision), desk.events())
    show_progress(desk.lab, desk.config, desk.campaign.model_copy(update={"learned": desk.iteration_id}))
    desk.tell(f"decision: {output.decision}, {output.reason}")
    outcomes = {
        Decision.REFINE: Outcome.REFINE,
        Decision.NEW_HYPOTHESIS: Outcome.NEW_HYPOTHESIS,
        Decision.ACHIEVE: Outcome.STOP,
        Decision.STOP: Outcome.STOP,
        Decision.HUMAN_REVIEW: Outcome.ESCALATE,
    }
    return Result(outcomes[output.decision], f"{output.decision}: {output.reason}", _remember(desk, output))


def _refused(desk: Desk, output: DecisionOutput) -> str:
    """Why the wish cannot be granted: the target is not met, or the network to refine cannot be built."""
    if output.decision is Decision.ACHIEVE:
        missed = target.missed(desk.target, desk.config, _results(desk))
        return f"achieve is refused: {missed}" if missed else ""
    if output.decision is Decision.REFINE and output.next_config is not None:
        unfit = blueprint.unfit(candidate.in_base(desk), {blueprint.MODEL: output.next_config}, desk.slug)
        return f"next_config: {unfit}" if unfit else ""
    return ""


def _standing(desk: Desk) -> str:
    """In one line, whether what was measured meets the target."""
    missed = target.missed(desk.target, desk.config, _results(desk))
    return f"not met: {missed}" if missed else f"met: {desk.target} by the mean on fresh seeds"


def _remember(desk: Desk, output: DecisionOutput) -> dict[str, object]:
    """The campaign after this iteration: a kept candidate is champion, and how long ago a gain was."""
    results, campaign = _results(desk), desk.campaign
    found = results.confirmation
    gained = found is not None and found.outcome == "kept"
    update: dict[str, object] = {"parent": desk.iteration_id, "learned": desk.iteration_id}
    if found is not None and gained:
        newest = _champion(desk, results)
        update["champions"] = champion.promote(desk.lab, campaign, newest)
        request = _merge_request(desk, newest)
        desk.tell(f"{meanings.fate(found)}: autolab/champion is {newest.commit[:12]}; {request}")
    if found is not None and found.outcome == "suspicious":
        _set_aside(desk, results, found)
        update["suspicious"] = (*campaign.suspicious, desk.iteration_id)
    if campaign.loop is not None:
        since = 0 if gained else campaign.loop.since_gain + 1
        update["loop"] = campaign.loop.model_copy(update={"since_gain": since})
    return update


def _merge_request(desk: Desk, made: Champion) -> str:
    """Write what a person needs to take a candidate over; where it lies."""
    changed = desk.lab.git.changed_paths(made.parent, made.commit)
    share = desk.campaign.claims.false_share
    text = accounts.merge_request(_account(desk), made.commit, made.parent, changed, share)
    desk.write(desk.paths.folder / "merge_request.md", text)
    return f"{desk.shown(desk.paths.folder)}/merge_request.md"


def _set_aside(desk: Desk, results: Results, found: Confirmation) -> None:
    """Put a suspicious candidate where the user finds it; the loop goes on from what stands."""
    made = _champion(desk, results)
    quarantine.set_aside(desk.lab, desk.events(), quarantine.Waiting(made, desk.hypothesis().title, found.suspicions))
    request = _merge_request(desk, made)
    desk.tell(f"set aside as suspicious: {'; '.join(found.suspicions)}")
    desk.tell(f"  nothing is built on it; `autolab review` shows the ways, {request} what it is")


def _champion(desk: Desk, results: Results) -> Champion:
    found = results.confirmation
    assert found is not None
    return Champion(
        iteration_id=desk.iteration_id,
        run_id=found.run_id,
        commit=desk.candidate() or "",
        parent=desk.campaign.base_commit or "",
        epoch=_manifest(desk, found.run_id).epoch or "",
        gain=found.shrunken,
        evaluation_only=found.evaluation_only,
        metrics=results.metrics,
        home_commit=desk.campaign.home_commit,
    )


def show_progress(lab: Lab, config: Config, campaign: Campaign) -> list[str]:
    """Draw every try so far among the paper's figures, while the checkout is the lab's; the files written."""
    told = lessons.recall(lab.store, lab.ledger, campaign.learned)[::-1]
    if not told or lab.away(campaign):
        return []
    begun = told[0].baseline
    tries = [figures.Try(told[0].iteration - 1, "baseline", "baseline", *_ends(begun), False)] if begun else []
    for one in told:
        supported = one.verdict is Verdict.SUPPORTED
        verdict = one.verdict or one.status
        tries.append(figures.Try(one.iteration, one.title, verdict, *_ends(one.measured), supported))
    stem = lab.root / config.docs.figures / "progress"
    stem.parent.mkdir(parents=True, exist_ok=True)
    drawn = figures.progress(tries, config.metric.primary, config.metric.direction, stem)
    return [str(path.relative_to(lab.root)) for path in drawn]


def _ends(found: Interval | None) -> tuple[float | None, float | None, float | None]:
    return (found.mean, found.low, found.high) if found else (None, None, None)


def _lesson(desk: Desk, decision: Decision) -> Lesson:
    """What this iteration taught, for whoever proposes the next."""
    results, spec, claim, manifest = _results(desk), desk.design(), desk.hypothesis(), _manifest(desk)
    compared = max(results.assessment.comparisons, key=lambda c: c.difference.mean, default=None)
    lead = compared.arm if compared else spec.variants[0].name
    mine, base = (_trials_of(manifest, arm) for arm in (lead, spec.baselines[0].name))
    return Lesson(
        iteration=desk.campaign.iterations,
        iteration_id=desk.iteration_id,
        hypothesis_id=claim.id,
        title=claim.title,
        family=claim.family,
        changes=spec.changes,
        base=desk.campaign.base_commit or "",
        commit=desk.candidate(),
        status=results.status,
        verdict=results.assessment.verdict,
        reason=results.assessment.reason,
        outcome=results.confirmation.outcome if results.confirmation else None,
        evaluation_only=results.confirmation.evaluation_only if results.confirmation else False,
        delta=spec.metrics.success_delta,
        gain=compared.difference if compared else None,
        measured=_mean(mine, manifest),
        baseline=_mean(base, manifest),
        seconds=_mean_seconds(mine),
        baseline_seconds=_mean_seconds(base),
        decision=decision,
    )


def _via(desk: Desk) -> str:
    """Who wrote the candidate's code: the assembler, or a researcher by name."""
    said = [line.data.get("via") for line in desk.events() if line.event == "candidate"]
    return said[-1] if said and said[-1] else desk.researcher.name


def _trials_of(manifest: Manifest, arm: str) -> list[Trial]:
    return [trial for trial in manifest.trials if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED]


def _mean(trials: list[Trial], manifest: Manifest) -> Interval | None:
    """The mean of what the run compares with its 95% interval; None below two trials that measured it."""
    found = [Scale.of(manifest).score(trial) for trial in trials]
    known = [value for value in found if value is not None]
    return stats.student_interval(known, 0.025) if len(known) > 1 else None


def _mean_seconds(trials: list[Trial]) -> float | None:
    return round(sum(trial.seconds for trial in trials) / len(trials), 3) if trials else None


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
        assembler=Assembler(via=_via(desk)),
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
        outcome=results.confirmation.outcome if results.confirmation else None,
        evaluation_only=results.confirmation.evaluation_only if results.confirmation else False,
        planning_decision=PlanningDecision(
            action=output.decision,
            reason=output.reason,
            next_config=output.next_config if output.decision is Decision.REFINE else None,
        ),
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
                inert(reason),
                f"Nothing was reset; {kept}. Prompts, replies and check logs: `{_logs(desk)}`.",
                "## Ways on",
                "\n".join(f"- {way}" for way in ways),
            ]
        )
        + "\n"
    )


def _logs(desk: Desk) -> Path:
    return desk.lab.logs(desk.iteration_id).relative_to(desk.lab.root)
