"""`autolab propose`: hand a candidate to the loop, or see what became of those that were."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction

from autolab.cli import flags
from autolab.cli.flags import option
from autolab.cli.session import print_result
from autolab.compare.versions import settings_of
from autolab.errors import ExitCode, UsageError
from autolab.lab.git import find_root
from autolab.lab.lab import Lab
from autolab.loop import proposals
from autolab.loop.proposals import Proposal, ProposalRequest, ProposalStatus


def propose(
    candidate: Positional[Annotated[str | None, option("[CANDIDATE]")]] = None,
    /,
    *,
    title: Annotated[str, option("TEXT")] = "",
    claim: Annotated[str, option("TEXT")] = "",
    mechanism: Annotated[str, option("TEXT")] = "",
    gain: Annotated[float | None, option("NUMBER")] = None,
    patch: Annotated[Path | None, option("FILE")] = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], option("KEY=VALUE")] = (),
    by: Annotated[str, option("NAME")] = "the command line",
    dir: flags.LabFolder = Path("."),
    json: flags.Json = False,
) -> int:
    """Hand a candidate to the loop of the lab, which tests it before it asks its own researcher.

    It passes the same gates as any candidate: path policy, checks, review, paired trials. A loop may run meanwhile.
    Without --title it lists the proposals and what became of each.

    Args:
        candidate: A revision; by default the working tree with its uncommitted changes.
        title: What the candidate does, in one line.
        claim: What would be seen if it helps.
        mechanism: Why it should help.
        gain: The gain that you expect, in units of the metric. It is kept as your word, and decides nothing.
        patch: A patch against the lab's base, as the candidate.
        set: Settings of the candidate, such as lr=0.003; without a candidate or a patch, with the code of the base.
        by: Who proposes it.
    """
    lab = Lab.find(dir)
    if not title:
        if candidate is not None or patch is not None or set:
            raise UsageError("propose: no --title; say in one line what the candidate does")
        known = proposals.proposals(lab)
        print_result([proposal.value() for proposal in known], _lines(known), json)
        return ExitCode.DONE
    request = ProposalRequest(
        title=title,
        claim=claim,
        mechanism=mechanism,
        expected_gain=gain,
        revision=candidate,
        patch=None if patch is None else _read(patch),
        settings=settings_of(set),
        by=by,
        checkout=find_root(dir.resolve()),
    )
    proposal = proposals.propose(lab, request)
    print_result(proposal.value(), _answer(proposal), json)
    return ExitCode.DONE


def _read(patch: Path) -> bytes:
    try:
        return patch.read_bytes()
    except OSError as error:
        raise UsageError(f"--patch: {patch} cannot be read: {error.strerror}") from None


def _lines(known: list[Proposal]) -> list[str]:
    if not known:
        return ["no proposals; `autolab propose --title ...` hands over the working tree"]
    return [_line(proposal) for proposal in known]


def _line(proposal: Proposal) -> str:
    stored = proposal.stored
    line = f"{stored.id}  {proposal.status}"
    if proposal.iteration_id is not None:
        line += f" by {proposal.iteration_id}"
    if proposal.verdict:
        line += f", {proposal.verdict}"
    line += f": {stored.title} ({stored.by}, {stored.at[:10]})"
    if proposal.reason:
        line += f"; {proposal.reason}"
    return line


def _answer(proposal: Proposal) -> list[str]:
    lines = [_line(proposal)]
    if proposal.stored.left_out:
        lines.append(f"left out, as no candidate's to change: {', '.join(proposal.stored.left_out)}")
    if proposal.status is ProposalStatus.WAITING:
        lines.append("the loop's next iteration takes the oldest one that waits: autolab loop --max-iterations 1")
    return lines
