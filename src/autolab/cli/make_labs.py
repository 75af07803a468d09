"""Commands that make a lab: init, demo."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional

from autolab.adoption.adopt import adopt
from autolab.cli import flags
from autolab.cli.flags import AdoptionFlags, RecordFlags, ResearcherFlags, SearchFlags, Switch, TrialFlags, option
from autolab.cli.init import fork_lab, make_lab
from autolab.cli.run_loops import loop
from autolab.cli.session import print_line
from autolab.errors import ExitCode, UsageError
from autolab.lab.lab import Lab
from autolab.reports.registry import evidence


def init(
    dir: Positional[Annotated[Path, option("[DIR]")]] = Path("."),
    /,
    *,
    template: Annotated[str, option("NAME")] = "digits",
    seed: Annotated[int | None, option("NUMBER")] = None,
    fork: Switch = False,
    from_existing: Switch = False,
    adoption: Annotated[AdoptionFlags, OmitArgPrefixes],
) -> int:
    """Make a lab: from a template, a clone, a copy (--fork) or your own repository (--from-existing).

    Args:
        dir: A new or empty folder for a template; else the clone, the copy or your repository.
        template: digits, cifar10, shakespeare, empty, or the path of a folder of your own, such as ./my-template.
        seed: Draw all seeds of the lab from this number, so that another lab can draw the same.
        fork: Make a copied lab a lab of its own, with a new id.
        from_existing: Make a lab of a repository that has a training program.
    """
    # An option without effect is refused: who gives it expects something else.
    if not from_existing and adoption != AdoptionFlags():
        names = "--train-command, --metric, --direction, --delta, --data, --python and --probe-seconds"
        raise UsageError(f"init: {names} go with --from-existing")
    if from_existing and (fork or template != "digits"):
        raise UsageError("init: --from-existing takes the repository as it is: leave --template and --fork out")
    if from_existing:
        lab = adopt(dir, adoption, seed, print_line)
    elif fork:
        lab = fork_lab(dir)
    else:
        lab = make_lab(dir, template, seed)
    print(f"lab {lab.lab_id} at {lab.root}")
    command = "autolab loop --max-iterations 3"
    if not Path.cwd().is_relative_to(lab.root):
        command = f"cd {shlex.quote(str(dir))} && {command}"
    print(f"next: {command}")
    return ExitCode.DONE


def demo(
    dir: Positional[Annotated[Path, option("[DIR]")]] = Path("autolab-demo"), /, *, plain: flags.Plain = False
) -> int:
    """Make a lab on handwritten digits, run three iterations of research, and show where the results are.

    Takes some minutes on two CPU cores and needs no key. Run it again for three more iterations.

    Args:
        dir: A new folder, or that of an earlier demo.
    """
    # A demo that was killed, or that is over, goes on in its lab.
    if not (dir / ".git" / "autolab" / "head").exists():
        make_lab(dir, "digits", 0)
    code = loop(SearchFlags(max_iterations=3), ResearcherFlags(), TrialFlags(), RecordFlags(), dir=dir, plain=plain)
    if code == ExitCode.DONE:
        print("\n" + evidence(Lab.find(dir)))
    return code
