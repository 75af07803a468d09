"""Commands that look at machine, lab and record: verify, registry, publish, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes

from autolab.cli import flags
from autolab.cli.doctor import check_models, examine_machine, verify_lab
from autolab.cli.flags import CheckedModelFlags, ResearcherFlags, Switch, option
from autolab.cli.session import print_findings, print_line, to_json, with_researcher
from autolab.errors import ExitCode, UsageError
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.loop.document import write_documents
from autolab.loop.preflight import relative
from autolab.reports.registry import publishable, registry_records


def verify(*, dir: flags.LabFolder = Path("."), json: flags.Json = False) -> int:
    """Check the lab's documents, ledger, frozen files, prompts and programs; changes nothing."""
    return print_findings(verify_lab(Lab.find(dir)), json)


def registry(*, dir: flags.LabFolder = Path("."), json: flags.Json = False) -> int:
    """List the finished iterations, oldest first: verdict, metrics, decision.

    With --json also where prompts and replies lie, and the settings of the models.
    """
    records = registry_records(Lab.find(dir))
    if json:
        print(to_json(records))
        return ExitCode.DONE
    if not records:
        print("no iteration is finished yet")
    for record in records:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in record["eval_metrics"].items())
        decision = record["planning_decision"]["action"]
        # A run that gave no numbers has no verdict.
        verdict = record["verdict"] or record["status"]
        print(f"{record['iteration_id']}  {verdict:<12}  {metrics}  -> {decision}")
    return ExitCode.DONE


def publish(
    *,
    dir: flags.LabFolder = Path("."),
    message: Annotated[str, option("TEXT")] = "autolab: record of the experiments",
) -> int:
    """Commit the record on your branch: designs, manifests, tables, findings, reports, paper and figures.

    Your own changes, staged or not, stay as they are.

    Args:
        message: Message of the commit.
    """
    lab = Lab.find(dir)
    with lab.hold("autolab publish"):
        _, campaign = lab.load()
        # First, so that no entry that waits for the checkout is missing from the commit.
        write_documents(lab, campaign, print_line)
        paths = publishable(lab)
        commit = lab.git.publish(paths, message)
        if commit is None:
            print("nothing new to publish")
            return ExitCode.DONE
        events.append(lab.ledger, events.Published(commit=commit, files=len(paths)))
    print(f"committed {commit[:12]}")
    return ExitCode.DONE


def doctor(
    *,
    fix: Switch = False,
    llm: Switch = False,
    model: Annotated[CheckedModelFlags, OmitArgPrefixes],
    dir: flags.LabFolder = Path("."),
    json: flags.Json = False,
) -> int:
    """Check this machine and this lab, or with --fix repair the lab's files.

    Args:
        fix: Repair what can be repaired: ledger, state, worktrees, documents, missing files. Old files are kept.
        llm: Check the configured models: address, key, form of a reply, context and cost. One paid call for each.
    """
    if llm:
        lab = Lab.find(dir)
        researcher = ResearcherFlags(model.researcher, model=model.model, base_url=model.base_url)
        config = relative(lab, with_researcher(lab.config(), researcher))
        return print_findings(check_models(lab, config), json)
    if model != CheckedModelFlags():
        raise UsageError("doctor: --researcher, --model and --base-url go with --llm")
    return print_findings(examine_machine(dir, fix), json)
