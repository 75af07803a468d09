"""Candidates that were set aside as suspicious: they wait for the user, whenever that is, and the loop goes on.

    autolab review                                 what waits, why, and what can be done
    autolab review approve --iteration ID          it becomes champion, if what it was tested against still stands
    autolab review stop --iteration ID             it is rejected

What was set aside is one `set_aside` line of the ledger, with the champion that it would be; the campaign names those
that wait. An approval during an iteration is kept until that one is over, so that no champion changes under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autolab.errors import LabError
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import Campaign, Champion
from autolab.trials import champion

EVENT = "set_aside"


@dataclass(frozen=True)
class Waiting:
    """A candidate that was set aside, with the reasons, a line each."""

    candidate: Champion
    title: str
    reasons: tuple[str, ...]

    @property
    def iteration_id(self) -> str:
        return self.candidate.iteration_id


def set_aside(lab: Lab, events: Sequence[Line], waiting: Waiting) -> None:
    """Record it, once an iteration: a decision that is taken again after a crash finds the line it left."""
    if not any(line.event == EVENT for line in events):
        about = {"candidate": waiting.candidate.value(), "title": waiting.title, "reasons": list(waiting.reasons)}
        lab.ledger.append(EVENT, about)


def waiting(lab: Lab, campaign: Campaign) -> list[Waiting]:
    """What waits for the user, oldest first."""
    wanted = (*campaign.suspicious, *campaign.approved)
    lines = [line for line in lab.ledger.lines() if line.event == EVENT] if wanted else []
    found = [_read(line) for line in lines]
    return [one for one in found if one.iteration_id in wanted]


def _read(line: Line) -> Waiting:
    candidate = Champion.from_value(line.data["candidate"], f"ledger.jsonl line {line.n}: candidate")
    return Waiting(candidate, str(line.data["title"]), tuple(line.data["reasons"]))


def find(lab: Lab, campaign: Campaign, named: str) -> Waiting:
    """The one that waits whose iteration is `named`, in full or by a part that no other has. LabError: there is none,
    or several."""
    known = waiting(lab, campaign)
    exact = [one for one in known if one.iteration_id == named]
    mine = exact or [one for one in known if named and named in one.iteration_id]
    if len(mine) == 1:
        return mine[0]
    names = ", ".join(one.iteration_id for one in known) or "nothing"
    raise LabError(f"review --iteration {named}: {'names several' if mine else 'is not set aside'}; waiting: {names}")


def text(lab: Lab, campaign: Campaign) -> list[str]:
    """What waits for the user, with the reasons and the ways on."""
    rows = []
    for one in waiting(lab, campaign):
        approved = " (approved; taken when the iteration under way is over)"
        mark = approved if one.iteration_id in campaign.approved else ""
        gain = f"gain {one.candidate.gain:+.4g} on fresh seeds, shrunken"
        rows.append(f"{one.iteration_id}  {one.title}: suspicious, {gain}{mark}")
        rows += [f"    {reason}" for reason in one.reasons]
        rows.append(f"    look: git diff {one.candidate.parent[:12]} {one.candidate.commit[:12]}")
        rows.append(f"    take: autolab review approve --iteration {one.iteration_id}")
        rows.append(f"    leave: autolab review stop --iteration {one.iteration_id}")
    return rows


def reject(lab: Lab, campaign: Campaign, one: Waiting) -> None:
    """The user does not want it; it stays in the record and on its branch."""
    state, _ = lab.load()
    left = _without(campaign, one.iteration_id)
    lab.transition(state, left, why="suspicious rejected", of=one.iteration_id, log=lab.last_log())


def postpone(lab: Lab, campaign: Campaign, one: Waiting) -> None:
    """Approved while an iteration is under way: taken when that is over."""
    state, _ = lab.load()
    kept = _without(campaign, one.iteration_id)
    update: dict[str, object] = {"approved": (*kept.approved, one.iteration_id)}
    lab.transition(
        state, kept.model_copy(update=update), why="suspicious approved", of=one.iteration_id, log=lab.last_log()
    )


def take(lab: Lab, campaign: Campaign, one: Waiting, base: str) -> str:
    """Make an approved candidate champion by compare-and-swap; empty, or why it cannot be.

    `base` is what the next candidate branches from now: another commit than the one that this candidate was tested
    against means that nothing is known of the two together. Then it goes on waiting.
    """
    state, _ = lab.load()
    made, name = one.candidate, one.iteration_id
    if made.parent != base:
        kept = _without(campaign, name)
        back = kept.model_copy(update={"suspicious": (*kept.suspicious, name)})
        if back != campaign:
            lab.transition(state, back, why="suspicious not taken", of=name, log=lab.last_log())
        return (
            f"{name} was tested against {made.parent[:12]}, and {base[:12]} stands now: it has to be tested again;"
            f' `autolab loop --max-iterations 1 --goal "{one.title}"` proposes it on what stands, its code is'
            f" {made.commit[:12]}"
        )
    champions = champion.promote(lab, campaign, made)
    claims = campaign.claims.model_copy(update={"kept": campaign.claims.kept + 1})
    taken = _without(campaign, name).model_copy(update={"champions": champions, "claims": claims})
    if taken.loop is not None:
        taken = taken.model_copy(update={"loop": taken.loop.model_copy(update={"since_gain": 0})})
    lab.transition(state, taken, why="suspicious taken", of=name, log=lab.last_log())
    return ""


def _without(campaign: Campaign, name: str) -> Campaign:
    waits = tuple(one for one in campaign.suspicious if one != name)
    approved = tuple(one for one in campaign.approved if one != name)
    return campaign.model_copy(update={"suspicious": waits, "approved": approved})
