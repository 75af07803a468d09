"""Commands that look at machine, lab and record: verify, registry, publish, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from autolab.cli.doctor import check_models, examine_machine, verify_lab
from autolab.cli.flags import FLAT, CheckedModelFlags, ResearcherFlags
from autolab.cli.session import print_findings, print_line, to_json, with_researcher
from autolab.errors import UsageError
from autolab.lab.lab import Lab
from autolab.loop.document import write_documents
from autolab.loop.preflight import relative
from autolab.reports.registry import publishable, registry_records


def verify(*, dir: Path = Path("."), json: bool = False) -> int:
    """Check documents, ledger, frozen files, prompts and the lab's own programs; writes nothing.

    Args:
        dir: A folder in the lab.
        json: One JSON object.
    """
    return print_findings(verify_lab(Lab.find(dir)), json)


def registry(*, dir: Path = Path("."), json: bool = False) -> int:
    """Every finished iteration, oldest first.

    Args:
        dir: A folder in the lab.
        json: A JSON array with prompts' and replies' places, model settings and metrics.
    """
    records = registry_records(Lab.find(dir))
    if json:
        print(to_json(records))
        return 0
    for record in records:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in record["eval_metrics"].items())
        decision = record["planning_decision"]["action"]
        print(f"{record['iteration_id']}  {record['verdict'] or record['status']:<12}  {metrics}  -> {decision}")
    return 0


def publish(*, dir: Path = Path("."), message: str = "autolab: record of the experiments") -> int:
    """Commit the record on your branch: specs, manifests, aggregates, findings, reports, paper, figures.

    Everything else of yours, staged or not, stays as it is.

    Args:
        dir: A folder in the lab.
        message: The commit's message.
    """
    lab = Lab.find(dir)
    with lab.hold("autolab publish"):
        write_documents(lab, lab.load()[1], print_line)
        paths = publishable(lab)
        sha = lab.git.publish(paths, message)
        if sha is not None:
            lab.ledger.append("published", {"commit": sha, "files": len(paths)})
    print(f"committed {sha[:12]}" if sha else "nothing new to publish")
    return 0


def doctor(
    *,
    dir: Path = Path("."),
    fix: bool = False,
    llm: bool = False,
    models: Annotated[CheckedModelFlags, FLAT],
) -> int:
    """What this machine and this lab lack.

    Args:
        dir: A folder in the lab.
        fix: Fix what can be fixed: views, state, ledger, worktrees, cleaned files; with copies.
        llm: Ask the models that think here for a sample decision: address, key, model, form. Costs one short call each.
    """
    if not llm:
        if models.researcher or models.model or models.base_url:
            raise UsageError("doctor: --researcher, --model and --base-url go with --llm")
        return print_findings(examine_machine(dir, fix), models.json)
    lab = Lab.find(dir)
    flags = ResearcherFlags(models.researcher, model=models.model, base_url=models.base_url)
    config = with_researcher(lab.config(), flags)
    return print_findings(check_models(relative(lab, config), lab.control / "prompts"), models.json)
