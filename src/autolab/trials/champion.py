"""The champion: the branch that says which candidate stands, how it moves, and how it falls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autolab.errors import GitError
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import LINEAGE, Campaign, Champion
from autolab.lab.schemas.experiment import Manifest

BRANCH = "refs/heads/autolab/champion"


# What the next candidate branches from


def base(lab: Lab, campaign: Campaign, owned: Callable[[str], bool]) -> tuple[str, str, str]:
    """The commit that the next candidate branches from, that of the lab's branch, and what a user should hear.

    The champion, unless the user has committed code since it was made (`owned` tells the engine's own files): then
    their commit, because their work goes first. GitError: the lab's branch is gone.
    """
    git = lab.git
    home = git.resolve(f"refs/heads/{campaign.home_branch}")
    if home is None:
        raise GitError(f"branch {campaign.home_branch} is gone; check out the lab's branch again, or `autolab init`")
    newest = campaign.champions[-1] if campaign.champions else None
    if newest is None or git.resolve(newest.commit) is None:
        return home, home, ""
    since = git.changed_paths(newest.home_commit or home, home)
    code = [path for path in since if not owned(path)]
    if code:
        said = f"{code[0]} was committed on {campaign.home_branch}: the next candidate branches from there"
        return home, home, said
    return newest.commit, home, ""


def show(lab: Lab, campaign: Campaign, fallen: Sequence[Champion] = ()) -> str:
    """Put the branch `autolab/champion` where the record says; what a user should hear if somebody moved it.

    Where none stands any more, it goes back to what the first of the `fallen` branched from.
    """
    standing = campaign.champions[-1].commit if campaign.champions else None
    wanted = standing or (fallen[0].parent if fallen else None)
    present = lab.git.resolve(BRANCH)
    if wanted is None or present == wanted or lab.git.resolve(wanted) is None:
        return ""
    lab.git.update_ref(BRANCH, wanted, present)
    crash_points.point("champion.after_ref")
    known = [None, *(champion.commit for champion in (*campaign.champions, *fallen))]
    return "" if present in known else f"autolab/champion stood at {present[:12] if present else ''}: put back"


# How it moves and falls


def promote(lab: Lab, campaign: Campaign, newest: Champion) -> tuple[Champion, ...]:
    """Move the champion to a kept candidate; the lineage with it.

    The branch moves from where the record says it stands to the candidate, or not at all.
    """
    show(lab, campaign)
    present = lab.git.resolve(BRANCH)
    if present != newest.commit:
        lab.git.update_ref(BRANCH, newest.commit, present)
    crash_points.point("champion.after_ref")
    others = tuple(one for one in campaign.champions if one.commit != newest.commit)
    return (*others, newest)[-LINEAGE:]


def fallen(campaign: Campaign, manifest: Manifest) -> tuple[Campaign, tuple[Champion, ...]]:
    """`retract` for the champion that this confirmation made; nothing falls if it made none that stands."""
    made = [
        one for one in campaign.champions if (one.iteration_id, one.run_id) == (manifest.iteration_id, manifest.run_id)
    ]
    return retract(campaign, made[0].commit) if made else (campaign, ())


def retract(campaign: Campaign, commit: str) -> tuple[Campaign, tuple[Champion, ...]]:
    """The campaign without a champion and without all that was built on it, and those that fell.

    An iteration under way on a fallen base goes on from what stands now, and is tested against that.
    """
    down: list[Champion] = []
    gone = {commit}
    for one in campaign.champions:
        if one.commit in gone or one.parent in gone:
            gone.add(one.commit)
            down.append(one)
    standing = tuple(one for one in campaign.champions if one.commit not in gone)
    update: dict[str, object] = {"champions": standing}
    if campaign.base_commit in gone:
        update["base_commit"] = standing[-1].commit if standing else down[0].parent
    return campaign.model_copy(update=update), tuple(down)
