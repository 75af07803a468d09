"""The champion: the branch that says which candidate stands, how it moves, and how it falls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autolab.errors import GitError
from autolab.lab import crash_points, refs
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import LINEAGE, Campaign, Champion
from autolab.lab.schemas.experiment import Manifest

BRANCH = refs.CHAMPION


# The base of the next candidate


def base(lab: Lab, campaign: Campaign, owned: Callable[[str], bool]) -> tuple[str, str, str]:
    """The commit that the next candidate branches from, that of the lab's branch, and a line for the user.

    The base is the champion, unless the user has committed code since it was made (`owned` says which files are the
    engine's): then their commit, because their work goes first. GitError: the lab's branch is gone.
    """
    git = lab.git
    home = git.resolve(f"refs/heads/{campaign.home_branch}")
    if home is None:
        raise GitError(f"branch {campaign.home_branch} is gone; check out the lab's branch again, or `autolab init`")
    if not campaign.champions:
        return home, home, ""
    newest = campaign.champions[-1]
    if git.resolve(newest.commit) is None:
        return home, home, ""
    for path in git.changed_paths(newest.home_commit or home, home):
        if not owned(path):
            note = f"{path} was committed on {campaign.home_branch}: the next candidate branches from there"
            return home, home, note
    return newest.commit, home, ""


def show(lab: Lab, campaign: Campaign, fallen: Sequence[Champion] = ()) -> str:
    """Put the branch `autolab/champion` where the record says. Returns a line for the user if somebody moved it.

    If no champion stands any more, it goes back to what the first of the `fallen` branched from.
    """
    if campaign.champions:
        commit = campaign.champions[-1].commit
    elif fallen:
        commit = fallen[0].parent
    else:
        return ""
    present = lab.git.resolve(BRANCH)
    if present == commit or lab.git.resolve(commit) is None:
        return ""
    lab.git.update_ref(BRANCH, commit, present)
    crash_points.point("champion.after_ref")
    if present is None or any(champion.commit == present for champion in (*campaign.champions, *fallen)):
        return ""
    return f"autolab/champion stood at {present[:12]}: put back"


# How it moves and falls


def promote(lab: Lab, campaign: Campaign, newest: Champion) -> tuple[Champion, ...]:
    """Move the champion to a kept candidate. Returns the campaign's champions with it.

    The branch moves from where the record says it stands to the candidate, or not at all.
    """
    show(lab, campaign)
    present = lab.git.resolve(BRANCH)
    if present != newest.commit:
        lab.git.update_ref(BRANCH, newest.commit, present)
    crash_points.point("champion.after_ref")
    earlier = [champion for champion in campaign.champions if champion.commit != newest.commit]
    return (*earlier, newest)[-LINEAGE:]


def fallen(campaign: Campaign, manifest: Manifest) -> tuple[Campaign, tuple[Champion, ...]]:
    """`retract` for the champion that this confirmation made; nothing falls if it made none that stands."""
    for champion in campaign.champions:
        if (champion.iteration_id, champion.run_id) == (manifest.iteration_id, manifest.run_id):
            return retract(campaign, champion.commit)
    return campaign, ()


def retract(campaign: Campaign, commit: str) -> tuple[Campaign, tuple[Champion, ...]]:
    """The campaign without a champion and without all that was built on it, and those that fell.

    An iteration under way on a fallen base goes on from what stands now, and is tested against that.
    """
    fallen: list[Champion] = []
    standing: list[Champion] = []
    gone = {commit}
    # Oldest first: a parent has fallen before its children are looked at.
    for champion in campaign.champions:
        if champion.commit in gone or champion.parent in gone:
            gone.add(champion.commit)
            fallen.append(champion)
        else:
            standing.append(champion)
    update: dict[str, object] = {"champions": tuple(standing)}
    if campaign.base_commit in gone:
        update["base_commit"] = standing[-1].commit if standing else fallen[0].parent
    return campaign.model_copy(update=update), tuple(fallen)
