"""The lab on disk: every path, the lock, the state, the configuration that holds.

What must survive `checkout`, `stash` and `clean -fdx` lies in the git common dir (`Lab.store`). What `.autolab/` shows
of it is a view, written again from the ledger if it is missing. Only code inside `Lab.hold()`, which owns the flock,
writes. Everyone else reads what was last made durable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Unpack

from autolab import files
from autolab.errors import GitError, LabError, LedgerError, RecordError
from autolab.lab import crash_points, pytest_guard
from autolab.lab.experiment_paths import IterationPaths
from autolab.lab.git import Git, common_dir
from autolab.lab.ledger import Ledger, Line, machine
from autolab.lab.location import holder, is_locked, locate
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Backlog, Campaign, State
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.events import Cause, ControlChanged, Forked, LabMoved, Transition
from autolab.lab.trial_python import trial_python

CONTROL = ("config.yaml", "verifier_policy.yaml")
"""The user's files in `.autolab/`. If the checkout does not have one, its last readable copy counts."""
SECRET_BYTES = 32
LOOKS = 2000
"""How often the lock is tried, a millisecond apart, while only readers have it."""


class Lab:
    """A git repository with an `.autolab/` folder. `root` is its main checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = common_dir(root) / "autolab"
        self.control = root / ".autolab"
        self.state_path = self.control / "state.json"
        self.killed = ""
        """The command that held the lab before, if it was killed; set once the lab is held."""
        self.backlog_path = self.control / "backlog.yaml"
        self.worktrees = root / "5_worktrees"
        self.documents_path = self.store / "documents.json"
        self.ledger = Ledger(self.store)
        self.git = Git(root)

    @classmethod
    def find(cls, start: Path) -> Lab:
        """The lab that `start` lies in. LabError: it lies in none."""
        root, _ = locate(start)
        return cls(root)

    # --- paths ---

    def iteration(self, iteration_id: str) -> IterationPaths:
        return IterationPaths(self.root / "experiments" / iteration_id)

    def logs(self, iteration_id: str) -> Path:
        return self.control / "logs" / "iterations" / iteration_id

    @property
    def secret(self) -> bytes:
        """The bytes that seeds are derived from; no trial sees them. LabError: the file is missing or broken."""
        path = self.store / "secret"
        try:
            secret = bytes.fromhex(path.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            secret = b""
        if len(secret) != SECRET_BYTES:
            raise LabError(f"{path}: missing or broken; the lab's seeds come from it: put it back from a copy")
        return secret

    @property
    def lab_id(self) -> str:
        return self.ledger.head.lab_id

    def config(self) -> Config:
        """The configuration in the checkout, or its last copy if the checkout has none."""
        return Config.load(self._control_file("config.yaml"), ".autolab/config.yaml")

    def policy(self) -> VerifierPolicy:
        path = self._control_file("verifier_policy.yaml")
        return VerifierPolicy.load(path, ".autolab/verifier_policy.yaml") if path.exists() else VerifierPolicy()

    def prompt(self, name: str) -> Path:
        """The prompt file `name` in the checkout, or its last copy if the checkout has none."""
        path = self.control / "prompts" / name
        return path if path.exists() else self.store / "control" / "prompts" / name

    def _control_file(self, name: str) -> Path:
        path = self.control / name
        copy = self.store / "control" / name
        # If neither is there, the path in the checkout: an error names the file that the user knows.
        return copy if copy.exists() and not path.exists() else path

    def python(self, config: Config) -> str:
        """The trials' interpreter. LabError: the config names a program that does not exist."""
        return trial_python(self.root, config)

    # --- state ---

    def load(self) -> tuple[State, Campaign]:
        """State and campaign of the newest transition."""
        line = self.ledger.transition()
        if line is None:
            raise LedgerError(f"{self.ledger.path}: no transition in it; `autolab doctor --fix` begins it anew")
        return read_transition(line)

    def transition(self, state: State, campaign: Campaign, **cause: Unpack[Cause]) -> None:
        """Make a new state durable: one ledger line, then its copy in `.autolab/state.json`."""
        line = events.append(self.ledger, Transition(state=state, campaign=campaign, **cause))
        last = {"n": line.n, "state": line.data["state"], "campaign": line.data["campaign"]}
        # Only `doctor --fix` reads this, in a lab that lost its ledger. So it is not worth an fsync.
        files.write_whole(self.store / "campaign.json", json.dumps(last), sync=False)
        # Not `state` itself: the recorded one has its secrets taken out.
        recorded, _ = read_transition(line)
        self.show_state(recorded)
        self._show_views()

    def last_log(self) -> str | None:
        """The commit of the record in the newest transition, for a transition that leaves the record as it is."""
        line = self.ledger.transition()
        return events.read(line, Transition).log if line else None

    def show_state(self, state: State) -> None:
        files.write_whole(self.state_path, state.to_json())
        crash_points.point("state.after_write")

    def check_state(self, *, fix: bool = False) -> None:
        """Bring `.autolab/state.json` up to the ledger. LedgerError: it is damaged, or somebody edited it.

        With `fix` it is written again, and the edited or damaged one is kept as a copy beside it.
        """
        state, _ = self.load()
        if not self.state_path.exists():
            return self.show_state(state)
        try:
            view = State.load(self.state_path, ".autolab/state.json")
            if view == state:
                return
            # An earlier state is left behind by a crash between the ledger and the view. It is no edit.
            problem = "" if self._was_once(view) else _difference(view, state)
        except RecordError as error:
            problem = str(error)
        if problem and not fix:
            raise LedgerError(
                f"{problem}; the ledger holds the state: `autolab doctor --fix` writes it again, with a copy"
            )
        if problem and self.state_path.is_file():
            text = self.state_path.read_bytes()
            files.write_whole(self.state_path.with_name(f"state.edited.{files.sha256_of(text)[:8]}.json"), text)
        self.show_state(state)

    def _was_once(self, view: State) -> bool:
        value = view.value()
        # Plain values are compared: to parse every transition of a long ledger would take seconds.
        return any(line.event == Transition.KIND and line.data["state"] == value for line in self.ledger.lines())

    # --- the lock ---

    @contextlib.contextmanager
    def hold(self, command: str) -> Iterator[Lab]:
        """Take the lab's lock, repair and check the lab, and release the lock at the end."""
        with self.own(command):
            self.ledger.open(repair=True)
            self.take_up()
            yield self

    @contextlib.contextmanager
    def own(self, command: str, *, take: bool = False) -> Iterator[None]:
        """Take the lab's lock: a flock. LabError: another command holds it; the message names that command.

        A command on another machine counts too, unless the user says with `take` that it has ended.
        """
        path = self.store / "lock"
        with _open_lock(path) as file:
            self._take(file)
            # Some shared file systems do not carry a flock to other machines: there only the text in the file tells.
            if not take:
                self._refuse_elsewhere(file)
            file.seek(0)
            # A command that ends empties the file. Text in it is of one that was killed.
            self.killed = _field(file.read(), "command")
            holder = {"pid": os.getpid(), "command": command, "since": files.utc_now(), "machine": machine()}
            text = json.dumps(holder)
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()
            try:
                # For the user's eyes. It locks nothing.
                files.write_whole(self.control / "lock", text + "\n", sync=False)
                yield
            finally:
                file.seek(0)
                file.truncate()
                (self.control / "lock").unlink(missing_ok=True)

    def _refuse_elsewhere(self, file: IO[str]) -> None:
        """LabError: a command of another machine holds the lab, or was killed while it did."""
        file.seek(0)
        text = file.read()
        host = _field(text, "machine")
        if not host or host == machine():
            return
        command = f"`{_field(text, 'command')}` (pid {_field(text, 'pid')} on {host}, since {_field(text, 'since')})"
        raise LabError(
            f"{self.root}: held by {command}, another machine than this one ({machine()}): end it there; if it is over,"
            " `autolab doctor --fix` takes the lock"
        )

    def take_up(self, *, fix: bool = False) -> None:
        """Record what happened to the lab since it was last locked, and write missing views again."""
        self._settle()
        self.check_state(fix=fix)
        self._copy_control()
        self._show_views()

    def _take(self, file: IO[str]) -> None:
        """Take the flock on `file`. LabError: another command has it."""
        for _ in range(LOOKS):
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                command = holder(self.store)
            if command is not None:
                raise LabError(f"{self.root}: held by {command}; wait for it or `autolab stop`")
            # A reader has a shared flock for an instant, to see whether the lab is held.
            time.sleep(0.001)
        raise LabError(f"{self.root}: its lock is held without pause by something else; {self.store / 'lock'}")

    def _settle(self) -> None:
        """Record that the lab was moved since its last line. LabError: it is a copy."""
        head = self.ledger.head
        if head.path == str(self.root) and head.machine == machine():
            return
        if head.path != str(self.root):
            if _stands_at(Path(head.path), head.lab_id):
                raise LabError(
                    f"{self.root}: a copy of the lab at {head.path}, which still stands; "
                    "`autolab init --fork` makes it a lab of its own"
                )
            self._leave_old_runs()
            self.git.repair_worktrees()
        # Before the head: a crash in between records the move twice, not never.
        events.append(self.ledger, LabMoved(source=head.path, to=str(self.root), machine=machine()))
        self.ledger.relocate(self.root)

    def fork(self, lab_id: str) -> None:
        """Make a copied lab a lab of its own: new id, own worktrees; running trials are forgotten."""
        old = self.ledger.head
        self._leave_old_runs()
        self.git.repair_worktrees()
        # The id before the place: with the old id at the new place, a crash would leave two labs of one id.
        self.ledger.rename(lab_id)
        self.ledger.relocate(self.root)
        events.append(self.ledger, Forked(source=old.path, was=old.lab_id, lab_id=lab_id))

    def _leave_old_runs(self) -> None:
        """Put the queues aside: they name paths of the old place. Their trials are measured again."""
        runs = self.store / "runs"
        for lock in sorted(runs.glob("*/lock")):
            if is_locked(lock):
                raise LabError(
                    f"{lock.parent}: trials of the old place still run there; wait until they end, then try again"
                )
        if runs.exists():
            number = len(list(self.store.glob("runs.left.*")))
            runs.rename(self.store / f"runs.left.{number}")

    def _copy_control(self) -> None:
        """Keep a copy of each file of the user's in `.autolab/`, and record in the ledger that it changed."""
        prompts = sorted((self.control / "prompts").glob("*.md"))
        for name in (*CONTROL, *(f"prompts/{prompt.name}" for prompt in prompts)):
            path, copy = self.control / name, self.store / "control" / name
            if not path.exists():
                continue
            text = path.read_bytes()
            if copy.exists() and copy.read_bytes() == text:
                continue
            # A file that cannot be read never becomes the copy, which counts if the checkout has no such file.
            if name == "config.yaml":
                Config.load(path, ".autolab/config.yaml")
            elif name == "verifier_policy.yaml":
                VerifierPolicy.load(path, ".autolab/verifier_policy.yaml")
            # Recorded first: a crash between the two records it twice, not never.
            events.append(self.ledger, ControlChanged(file=f".autolab/{name}", sha256=files.sha256_of(text)))
            files.write_whole(copy, text)

    def _show_views(self) -> None:
        """Write again what is missing of `.autolab/`, and the files that keep pytest out of candidates' files."""
        self.link_ledger()
        self.note_interpreter()
        pytest_guard.write(self.root)
        if not self.backlog_path.exists():
            self.show_backlog(self.backlog())

    def link_ledger(self) -> None:
        """Make `.autolab/ledger.jsonl` a link to the ledger, for readers."""
        # Not the file itself: `git clean -fdx` would delete it.
        link = self.control / "ledger.jsonl"
        if not link.is_symlink() and not link.exists():
            # Relative, so that it holds after the lab is moved.
            link.symlink_to(os.path.relpath(self.ledger.path, self.control))

    def note_interpreter(self) -> None:
        """Write down which interpreter runs Autolab, for the lab's `.autolab/interpreter.sh`."""
        path = self.store / "interpreter"
        text = os.fsencode(sys.executable + "\n")
        if not path.is_file() or path.read_bytes() != text:
            files.write_whole(path, text, sync=False)

    # --- the checkout, which is the user's ---

    def away(self, campaign: Campaign) -> str | None:
        """Why documents cannot be written into the checkout now, or None if it stands on the lab's branch."""
        busy = self.git.busy()
        if busy:
            return f"a {busy} is in progress"
        branch = self.git.branch()
        if branch == campaign.home_branch:
            return None
        return f"{branch or 'a detached commit'} is checked out, the lab's branch is {campaign.home_branch}"

    def require_here(self) -> None:
        """LabError: the lab was moved away while a command works on it; nothing may be written at its old place."""
        if not self.ledger.path.exists():
            raise LabError(f"{self.root}: the lab was moved or deleted meanwhile; run the command again where it is")

    def ask_to_stop(self, who: str) -> None:
        """Ask the command that holds the lab to stop. `who` names it."""
        # With the name in the file, no later command obeys.
        files.write_whole(self.store / "stop", who)

    def asked_to_stop(self, who: str | None) -> bool:
        path = self.store / "stop"
        return who is not None and path.is_file() and path.read_bytes() == who.encode()

    def backlog(self) -> Backlog:
        """The newest hypotheses and experiments. RecordError: the file is damaged."""
        path = self.store / "backlog.yaml"
        try:
            return Backlog.load(path, str(path)) if path.exists() else Backlog()
        except RecordError as error:
            raise RecordError(f"{error}; `autolab doctor --fix` makes it again") from None

    def show_backlog(self, backlog: Backlog) -> None:
        for path in (self.store / "backlog.yaml", self.backlog_path):
            files.write_whole(path, backlog.to_yaml())


def read_transition(line: Line) -> tuple[State, Campaign]:
    """State and campaign of a transition. RecordError: the line does not fit its form."""
    transition = events.read(line, Transition)
    return transition.state, transition.campaign


def _open_lock(path: Path) -> IO[str]:
    """The lock file, made if it is missing. LabError: a link or a folder is in its place; it is left as it is."""
    # Not through a link: a flock on a file elsewhere would let two commands hold the lab.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        raise LabError(f"{path}: not a file of its own; `autolab doctor --fix` puts it aside") from None
    return open(descriptor, "a+", encoding="utf-8", errors="replace")


def _field(text: str, name: str) -> str:
    """A field of a lock file's text; empty if no command holds the lab."""
    try:
        return str(json.loads(text)[name])
    except (ValueError, TypeError, KeyError):
        return ""


def _stands_at(root: Path, lab_id: str) -> bool:
    try:
        head = json.loads((common_dir(root) / "autolab" / "head").read_text(encoding="utf-8"))
    except (OSError, ValueError, GitError):
        return False
    return bool(head.get("lab_id") == lab_id and head.get("path") == str(root))


def _difference(view: State, state: State) -> str:
    """The first field in which two different states differ, as one phrase."""
    fields, truth = view.value(), state.value()
    key = next(key for key in fields if fields[key] != truth[key])
    return (
        f".autolab/state.json: {key}: is {fields[key]!r}, never was so: edited by hand (the ledger says {truth[key]!r})"
    )
