"""Commands that make a lab: init, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from autolab.adoption.adopt import AdoptionRequest, adopt
from autolab.cli.flags import FLAT, LabFlags, RecordFlags, ResearcherFlags, SearchFlags, TrialFlags
from autolab.cli.init import fork_lab, make_lab
from autolab.cli.run_loops import loop
from autolab.cli.session import print_line
from autolab.errors import UsageError
from autolab.lab.lab import Lab
from autolab.reports.registry import evidence


def init(
    dir: Positional[Path] = Path("."),
    /,
    *,
    template: str = "digits",
    seed: int | None = None,
    fork: bool = False,
    from_existing: bool = False,
    adoption: Annotated[AdoptionRequest, FLAT],
) -> int:
    """Make a lab.

    Args:
        dir: A new or empty folder, a clone of a lab, or with --from-existing your repository.
        template: Which lab to copy.
        seed: Derive the lab's secret, and with it every drawn seed, from this number.
        fork: Make a copied lab one of its own: new id, own worktrees.
        from_existing: Make a lab of a repository with a training program. What is not said below is guessed aloud.
    """
    if not from_existing and adoption != AdoptionRequest():
        flags = "--train-command, --metric, --direction, --delta, --data and --python"
        raise UsageError(f"init: {flags} go with --from-existing")
    if from_existing and (fork or template != "digits"):
        raise UsageError("init: --from-existing takes the repository as it is: leave --template and --fork out")
    if from_existing:
        lab = adopt(dir, adoption, seed, print_line)
    else:
        lab = fork_lab(dir) if fork else make_lab(dir, template, seed)
    print(f"lab {lab.lab_id} at {lab.root}\nnext: cd {dir} && autolab loop --max-iterations 3")
    return 0


def demo(dir: Positional[Path] = Path("autolab-demo"), /, *, plain: bool = False) -> int:
    """A lab on digits and three iterations of research; prints where the evidence lies. Again: three more.

    Args:
        dir: A new folder, or one that an earlier demo made.
        plain: Lines only, on a terminal too.
    """
    if not (dir / ".git" / "autolab" / "head").exists():
        make_lab(dir, "digits", 0)
    code = loop(SearchFlags(max_iterations=3), ResearcherFlags(), TrialFlags(), RecordFlags(), LabFlags(plain, dir))
    if code:
        return code
    print("\n" + evidence(Lab.find(dir)))
    return 0
