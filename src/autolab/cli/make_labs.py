"""Commands that make a lab and its data: init, demo, fetch."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction

from autolab.adoption import fetch_data
from autolab.adoption.adopt import USUAL_S, adopt
from autolab.adoption.evaluator_setup import add_evaluator
from autolab.cli import flags
from autolab.cli.adoption_talk import adoption_talk
from autolab.cli.agent_files import AGENTS, plan_agent_files, server_command, write_agent_files
from autolab.cli.flags import (
    AdoptionFlags,
    EvaluatorFlags,
    RecordFlags,
    ResearcherFlags,
    SearchFlags,
    Switch,
    TrialFlags,
    option,
)
from autolab.cli.init import fork_lab, make_lab
from autolab.cli.run_loops import loop
from autolab.cli.session import print_line
from autolab.cli.view import Plain
from autolab.errors import ExitCode, UsageError
from autolab.lab.extras import install_command
from autolab.lab.git import common_dir, find_root
from autolab.lab.lab import Lab
from autolab.reports.registry import evidence

DEMO_BATCHES = 4
"""Batches of `demo`: twelve ideas."""


def init(
    dir: Positional[Annotated[Path, option("[DIR]")]] = Path("."),
    /,
    *,
    template: Annotated[str, option("NAME")] = "digits",
    seed: Annotated[int | None, option("NUMBER")] = None,
    fork: Switch = False,
    from_existing: Switch = False,
    evaluator: Switch = False,
    agent: Annotated[UseAppendAction[tuple[Literal["claude", "codex"], ...]], option("{claude,codex}")] = (),
    adoption: Annotated[AdoptionFlags, OmitArgPrefixes],
    sealed: Annotated[EvaluatorFlags, OmitArgPrefixes],
) -> int:
    """Make a lab: from a template, a clone, a copy (--fork) or your own repository (--from-existing).

    With --evaluator, add a sealed evaluator to the lab of your own repository: run it again after each step.
    With --agent, write the rules and the tools where a coding agent reads them; in a repository without a lab this
    makes none, and writes how to compare.

    Args:
        dir: A new or empty folder for a template; else the clone, the copy or your repository.
        template: digits, cifar10, shakespeare, empty, or the path of a folder of your own, such as ./my-template.
        seed: Draw all seeds of the lab from this number, so that another lab can draw the same.
        fork: Make a copied lab a lab of its own, with a new id.
        from_existing: Make a lab of a repository that has a training program.
        evaluator: Write predict.py and eval.py for the lab of your own repository, check them, put them in force.
        agent: Also write the files of this coding agent; what is in them stays. Repeatable.
    """
    # Without an option that makes or changes a lab, nothing but agents' files is written where something stands.
    makes_lab = (evaluator, from_existing, fork, template, seed, adoption, sealed)
    if agent and makes_lab == (False, False, False, "digits", None, AdoptionFlags(), EvaluatorFlags()):
        root = _without_new_lab(dir)
        if root is not None:
            print(f"next: {_write_for_agents(root, agent)}")
            return ExitCode.DONE
    if agent and evaluator:
        raise UsageError("init: --evaluator and --agent: one after the other")
    if agent:
        # A file that cannot be merged is told before a lab is made.
        plan_agent_files(dir.resolve(), agent, None)
    if evaluator:
        if from_existing or fork or template != "digits" or seed is not None:
            raise UsageError("init: --evaluator is for a lab that is there: first init --from-existing, then this")
        # Of the options of an adoption one limits this training, too.
        if adoption != replace(AdoptionFlags(), probe_seconds=adoption.probe_seconds):
            raise UsageError("init: with --evaluator go --model, --checkpoint and --probe-seconds")
        limit_s = USUAL_S if adoption.probe_seconds is None else adoption.probe_seconds
        print(f"next: {add_evaluator(dir, sealed, limit_s, print_line)}")
        return ExitCode.DONE
    if sealed != EvaluatorFlags():
        raise UsageError("init: --model and --checkpoint go with --evaluator")
    # An option without effect is refused: who gives it expects something else.
    if not from_existing and adoption != AdoptionFlags():
        names = "--train-command, --metric, --direction, --delta, --data, --python, --probe-seconds and --yes"
        raise UsageError(f"init: {names} go with --from-existing")
    if from_existing and (fork or template != "digits"):
        raise UsageError("init: --from-existing takes the repository as it is: leave --template and --fork out")
    if from_existing:
        lab = _adopted(dir, adoption, seed)
    elif fork:
        lab = fork_lab(dir)
    else:
        lab = make_lab(dir, template, seed)
    print(f"lab {lab.lab_id} at {lab.root}")
    if agent:
        print(f"note: {_write_for_agents(lab.root, agent)}")
    command = "autolab loop --max-iterations 3"
    if not Path.cwd().is_relative_to(lab.root):
        command = f"cd {shlex.quote(str(dir))} && {command}"
    print(f"next: {command}")
    return ExitCode.DONE


def _without_new_lab(folder: Path) -> Path | None:
    """The repository that agents' files go to as it is: a lab, or one without a lab; None if a lab is to be made."""
    root = find_root(folder.resolve()) if folder.exists() else None
    if root is None or (root != folder.resolve() and not any(folder.iterdir())):
        return None
    is_lab = (common_dir(root) / "autolab" / "head").exists()
    is_clone_of_lab = (root / ".autolab" / "config.yaml").exists()
    return root if is_lab or not is_clone_of_lab else None


def _write_for_agents(root: Path, agents: Sequence[str]) -> str:
    """Write what these agents read, and print each file. Returns the next step."""
    is_lab = (common_dir(root) / "autolab" / "head").exists()
    planned = plan_agent_files(root, agents, Lab.find(root).config() if is_lab else None)
    write_agent_files(planned)
    for file in planned:
        print(f"{file.name}: {file.change}")
    command, _ = server_command()
    if Path(command).is_absolute():
        print(f"note: the tools start by {command}, which is of this machine")
    if importlib.util.find_spec("mcp") is None:
        print(f"note: the tools need the extra `mcp`: {install_command('mcp')}")
    for name in dict.fromkeys(agents):
        print(f"note: {AGENTS[name].next_step}")
    changed = [file.name for file in planned if file.text != file.before]
    if not changed:
        return "start the agent here"
    git = "git" if Path.cwd() == root else f"git -C {shlex.quote(str(root))}"
    return f"{git} add {shlex.join(changed)} && {git} commit -m 'Autolab for coding agents'"


def _adopted(folder: Path, adoption: AdoptionFlags, seed: int | None) -> Lab:
    # What programs print is quoted: it must not move the cursor.
    tell = Plain(print_line)
    return adopt(folder, adoption, seed, tell, *adoption_talk(adoption, tell))


def demo(
    dir: Positional[Annotated[Path, option("[DIR]")]] = Path("autolab-demo"), /, *, plain: flags.Plain = False
) -> int:
    """Make a lab on handwritten digits, screen four batches of ideas, claim the best, and show where the results are.

    Takes some minutes on two CPU cores and needs no key. Run it again for four more batches.

    Args:
        dir: A new folder, or that of an earlier demo.
    """
    # A demo that was killed, or that is over, goes on in its lab.
    if not (dir / ".git" / "autolab" / "head").exists():
        make_lab(dir, "digits", 0)
    search = SearchFlags(max_iterations=DEMO_BATCHES)
    code = loop(search, ResearcherFlags(), TrialFlags(), RecordFlags(), dir=dir, plain=plain)
    if code == ExitCode.DONE:
        print("\n" + evidence(Lab.find(dir)))
    return code


def fetch(
    command: Positional[Annotated[tuple[str, ...], option("-- CMD ...")]] = (),
    /,
    *,
    again: Switch = False,
    data: Annotated[UseAppendAction[tuple[str, ...]], option("DATA[=AT]")] = (),
    python: Annotated[Path | None, option("FILE")] = None,
    memory_gb: Annotated[float, option("NUMBER")] = 8,
    disk_gb: Annotated[float, option("NUMBER")] = 50,
    hours: Annotated[float, option("NUMBER")] = 24,
    dir: flags.LabFolder = Path("."),
) -> int:
    """Run a command that prepares data once, with network, and keep what it makes for trials, read-only and sealed.

    Such as `autolab fetch -- python data/prepare.py`. It runs in a copy of the last commit, contained but for the
    network, without your home and your keys. New files of the copy and of its home (~/.cache) are kept, if it ends with
    exit code 0. Works before `init` too. Without a command it lists what was fetched.

    Args:
        command: The command and its arguments, after two dashes.
        again: Run it although it was run before, and replace what it made.
        data: Data that the command needs and git does not hold; DATA=AT if it looks for it at AT. Repeatable.
        python: Python for the command; else that of the trials.
        memory_gb: Memory that it may use.
        disk_gb: Disk that it may fill.
        hours: Time that it may take.
    """
    if not command:
        if again or data:
            raise UsageError("fetch: no command; name it after two dashes: autolab fetch -- python data/prepare.py")
        for line in fetch_data.listing(dir):
            print(line)
        return ExitCode.DONE
    for name, number in (("memory-gb", memory_gb), ("disk-gb", disk_gb), ("hours", hours)):
        if not 0 < number < float("inf"):
            raise UsageError(f"--{name}: {number:g} is not a positive number")
    limits = fetch_data.FetchLimits(memory_gb, disk_gb, hours)
    fetch_data.fetch(dir, command, again=again, python=python, data=data, limits=limits, tell=print_line)
    return ExitCode.DONE
