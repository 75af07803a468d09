"""What `autolab doctor --fix` repairs in the record of a lab: kinds and contents of files, a lost ledger, manifests.

A damaged file is moved to `.git/autolab/aside/`. If possible, it is made again from the ledger, from git or from its
other copy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab import files
from autolab.errors import AutolabError, LabError, LedgerError, RecordError
from autolab.ideas.lessons import stored
from autolab.lab import front_matter
from autolab.lab.experiment_paths import IterationPaths
from autolab.lab.lab import Lab
from autolab.lab.ledger import Ledger
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Backlog, Campaign, State
from autolab.lab.schemas.experiment import Calibration, Hypothesis, Lesson, Manifest, Results, RunMetrics
from autolab.lab.schemas.outcomes import RunKind, Stage
from autolab.lab.schemas.record import read_document
from autolab.loop import manual_evaluation
from autolab.reports import iteration_documents, journal
from autolab.reports.journal import Pending
from autolab.reports.results_table import COLUMNS, columns_of, identity, in_form, screen_rows
from autolab.trials import calibration, seal

RECORD = ("ledger.jsonl", "head", "secret")
PLAIN = (
    *RECORD,
    *("lock", "stop", "documents.json", "lessons.jsonl", "calibration.json", "containment.json", "backlog.yaml"),
    *("interpreter", "campaign.json", "control/config.yaml", "control/verifier_policy.yaml"),
)
"""Files of the store that have to be regular files."""
VIEWS = ("state.json", "backlog.yaml", "calibration.json", "lock", "agent_result.json")
"""The same in `.autolab/`."""
FOLDERS = (
    *("aside", "bytecode", "control", "exports", "fetched", "held", "pending", "plans", "requests"),
    *("runs", "seals", "trials"),
)
KINDS = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}
NO_ACCESS = "cannot be read and written by you"
WAY_OUT = "`autolab doctor --fix` puts it aside and makes it again"


# kinds of files


def _places(store: Path, control: Path) -> Iterator[tuple[Path, bool]]:
    """Every path that has a fixed kind, and whether it is a folder; folders first."""
    for folder in (store, control, *(store / name for name in FOLDERS)):
        yield folder, True
    paths = [store / name for name in PLAIN]
    paths += [control / name for name in VIEWS]
    for pattern in ("control/prompts/*", "seals/*.json", "pending/*.json"):
        paths += sorted(store.glob(pattern))
    for path in paths:
        yield path, False


def _kind_problem(path: Path, is_folder: bool) -> str:
    """What is wrong with the kind of a path, or with its access; empty if nothing, or if nothing is there."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    kind = KINDS.get(stat.S_IFMT(mode), "neither file nor folder")
    expected = "a folder" if is_folder else "a file"
    if kind != expected:
        return f"is {kind}, where {expected} belongs"
    access = os.R_OK | os.W_OK
    if is_folder:
        access |= os.X_OK
    if not os.access(path, access):
        return NO_ACCESS
    return ""


def misplaced(lab: Lab) -> Iterator[str]:
    """A line for each path of the record that is of the wrong kind, or that the user has no access to."""
    for path, is_folder in _places(lab.store, lab.control):
        problem = _kind_problem(path, is_folder)
        if problem:
            yield f"{path}: {problem}; {WAY_OUT}"


def restore_kinds(store: Path, control: Path) -> Iterator[str]:
    """Give every path of the record its kind and its access back; a line for each. No lock can be held before this."""
    for path, is_folder in _places(store, control):
        problem = _kind_problem(path, is_folder)
        if not problem:
            continue
        if problem == NO_ACCESS:
            rights = 0o700 if is_folder else 0o600
            path.chmod(stat.S_IMODE(path.stat().st_mode) | rights)
            yield f"{path}: {problem}: its permissions were fixed"
            continue
        # What a link leads to is taken over. A lock's content says nothing once nobody holds it.
        takes_over = path.is_symlink() and path.is_file() and not is_folder and path.name != "lock"
        # Before the link is moved: a relative one would lead elsewhere from its new place.
        content = path.read_bytes() if takes_over else b""
        message = f"{path}: {problem}: put aside as {put_aside(store, path)}"
        if takes_over:
            files.write_whole(path, content)
            sha256 = files.sha256_of(content)
            message += f"; the file that it led to was copied in its place (sha256 {sha256[:12]})"
        yield message


def put_aside(store: Path, path: Path) -> Path:
    """Move what lies at `path`, a link itself and not its target, into `aside/`; its new path."""
    folder = store / "aside"
    folder.mkdir(exist_ok=True)
    # Numbered: a repair never replaces what an earlier one has put aside.
    number = len(list(folder.glob(f"{path.name}.*")))
    copy = folder / f"{path.name}.{number}"
    shutil.move(path, copy)
    return copy


# contents of files


@dataclass(frozen=True)
class Contents:
    """Files of the store that fit `pattern`: what reads one, and what makes it again after it was put aside.

    `read` raises if the file is damaged. `make` returns what came of it, as the end of a message.
    """

    pattern: str
    read: Callable[[Lab, Path], object]
    make: Callable[[Lab, Path], str]


@dataclass(frozen=True)
class Damage:
    """A file that does not have its form."""

    path: Path
    message: str
    contents: Contents


def _read_documents(lab: Lab, path: Path) -> None:
    hashes = json.loads(path.read_bytes())
    if not isinstance(hashes, dict) or not all(isinstance(sha, str) for sha in hashes.values()):
        raise LabError("not an object of hashes")


def _make_documents(lab: Lab, path: Path) -> str:
    """The hashes of the documents, as the engine left them."""
    hashes = {}
    for document in events.events_of(lab.ledger.lines(), events.DocumentWritten):
        hashes[document.path] = document.sha256
    files.write_whole(path, json.dumps(hashes))
    return "made again from the ledger"


def _read_lessons(lab: Lab, path: Path) -> None:
    stored(path)


def _make_lessons(lab: Lab, path: Path) -> str:
    return "the next command makes it again from the ledger"


def _read_calibration(lab: Lab, path: Path) -> None:
    calibration.current_calibration(lab)


def _make_calibration(lab: Lab, path: Path) -> str:
    newest: Calibration | None = None
    for line in lab.ledger.lines():
        # Of the many transitions of a history only these are read whole.
        if line.event == events.Transition.KIND and line.data.get("why") == "calibrated":
            newest = events.read(line, events.Transition).calibration
    if newest is None:
        return "the lab is calibrated anew"
    for folder in (lab.control, lab.store):
        files.write_whole(folder / "calibration.json", newest.to_json())
    return "made again from the ledger"


def _read_backlog(lab: Lab, path: Path) -> None:
    lab.backlog()


def _make_backlog(lab: Lab, path: Path) -> str:
    """From the other of its two copies, in the store and in the checkout."""
    other = lab.store / "backlog.yaml" if path == lab.backlog_path else lab.backlog_path
    try:
        backlog = Backlog.load(other, str(other))
    except (RecordError, OSError):
        lab.show_backlog(Backlog())
        return "begun anew; what was tried stands in experiments/ and in the ledger"
    lab.show_backlog(backlog)
    return f"taken from {other}"


def _read_seal(lab: Lab, path: Path) -> None:
    seal.read(path)


def _make_seal(lab: Lab, path: Path) -> str:
    """Without its seal nobody knows what an export held: it is put aside too, and made again from git."""
    name = path.name.removesuffix(".json")
    for export in list((lab.store / "exports").glob("*")):
        if name.startswith(export.name):
            # An export is read-only, and a read-only folder cannot be moved.
            os.chmod(export, 0o755)
            put_aside(lab.store, export)
    return "what it sealed is exported and sealed anew by the next run"


def _read_pending(lab: Lab, path: Path) -> None:
    Pending(path.parent).read(path)


def _make_pending(lab: Lab, path: Path) -> str:
    name = path.name.partition("-")[2].removesuffix(".json")
    return f"an entry of {name} for a document is lost; its numbers stand in experiments/"


CONTENTS = (
    Contents("documents.json", _read_documents, _make_documents),
    Contents("lessons.jsonl", _read_lessons, _make_lessons),
    Contents("calibration.json", _read_calibration, _make_calibration),
    Contents("backlog.yaml", _read_backlog, _make_backlog),
    Contents("seals/*.json", _read_seal, _make_seal),
    Contents("pending/*.json", _read_pending, _make_pending),
)


def damages(lab: Lab) -> Iterator[Damage]:
    """Files of the store that do not have their form."""
    for contents in CONTENTS:
        for path in sorted(lab.store.glob(contents.pattern)):
            try:
                contents.read(lab, path)
            except (AutolabError, ValueError, TypeError, KeyError) as error:
                reason = str(error).removeprefix(f"{path}: ").partition("; `autolab doctor")[0]
                reason = " ".join(reason.split())[:200]
                yield Damage(path, f"{path}: not as Autolab wrote it: {reason}", contents)
            except OSError:
                # Of the wrong kind, which `misplaced` says.
                continue


def fix_contents(lab: Lab) -> Iterator[str]:
    """Put damaged files aside and make them again; a line for each. The caller holds the lock."""
    # All are found before the first is moved: a repair writes files that this would look at.
    for damage in list(damages(lab)):
        path = damage.path
        copy = put_aside(lab.store, path)
        yield f"{damage.message}; put aside as {copy}; {damage.contents.make(lab, path)}"
    try:
        Backlog.load(lab.backlog_path)
    except RecordError as error:
        if lab.backlog_path.is_file():
            copy = put_aside(lab.store, lab.backlog_path)
            yield f"{error}; put aside as {copy}; {_make_backlog(lab, lab.backlog_path)}"


# a ledger of which nothing is left


def begin_anew(lab: Lab, number_of_lines: int) -> str:
    """Begin a new chain: the old one of `number_of_lines` holds no state. What was taken over, and what is lost.

    LabError: neither a campaign nor a configuration is left to begin from.
    """
    state, campaign, is_whole = _last_state(lab)
    lessons = _lessons(lab)
    branch = campaign.home_branch or lab.git.branch()
    if branch is None:
        raise LabError(f"{lab.root}: no branch is checked out; run `git switch BRANCH`, then again")
    beginning = events.LedgerBegunAnew(
        lost=number_of_lines, iterations=campaign.iterations, open=state.iteration_id, campaign=is_whole
    )
    events.append(lab.ledger, beginning)
    for lesson in lessons:
        events.append(lab.ledger, events.Learned(lesson=lesson))
    update = {
        "home_branch": branch,
        "home_commit": campaign.home_commit or lab.git.head(),
        "loop": None,
        "learned": lessons[-1].iteration_id if lessons else None,
        "iteration_offset": lab.ledger.head.size,
    }
    new_campaign = campaign.model_copy(update=update)
    # The open iteration is given up: its lines, by which it would go on, are lost.
    begin = {"stage": Stage.HYPOTHESIS, "iteration_id": None, "reason": "", "stage_attempt": 1}
    new_state = state.model_copy(update=begin)
    # Last: until there is a transition the same command begins anew once more.
    lab.transition(new_state, new_campaign, why=events.LedgerBegunAnew.KIND)
    counts = f"{campaign.iterations} iterations, {len(lessons)} lessons, {len(campaign.champions)} champions"
    lost = "the earlier lines"
    if state.iteration_id:
        lost += f", the open iteration {state.iteration_id}"
    if not is_whole:
        lost += ", what the campaign had spent and claimed, its champions"
    return f"the ledger held no state any more and was begun anew; taken over: {counts}; lost: {lost}"


def _last_state(lab: Lab) -> tuple[State, Campaign, bool]:
    """State and campaign from their copy (True), or put together from the iterations (False)."""
    try:
        copy = json.loads((lab.store / "campaign.json").read_bytes())
        state = State.from_value(copy["state"], "campaign.json: state")
        return state, Campaign.from_value(copy["campaign"], "campaign.json: campaign"), True
    except (OSError, ValueError, TypeError, KeyError, RecordError):
        pass
    records = sorted((lab.root / "experiments").glob("[0-9]*/record.json"))
    hypotheses = 0
    for path in records:
        number = path.parent.name.rpartition("_h")[2]
        if number.isdecimal():
            hypotheses = max(hypotheses, int(number))
    return State.first(lab.config()), Campaign(iterations=len(records), hypotheses=hypotheses), False


def _lessons(lab: Lab) -> tuple[Lesson, ...]:
    try:
        return stored(lab.store / "lessons.jsonl")
    except (AutolabError, OSError):
        return ()


def lost_lines(lab: Lab) -> str:
    """What a ledger that was begun anew has lost; empty if it never was."""
    message = ""
    for line in lab.ledger.lines():
        if line.event == events.LedgerBegunAnew.KIND:
            lost = events.read(line, events.LedgerBegunAnew).lost
            message = f"begun anew on {line.time[:10]}, after {lost} lines were lost"
    return message


def has_transition(ledger: Ledger) -> bool:
    """Whether a state can be read from it."""
    try:
        return ledger.transition() is not None
    except (LedgerError, OSError):
        return False


# manifests, which the ledger holds by hash


Run = tuple[str, str]
"""Folder in experiments/ and id of a run. The lines of a reproduction do not say its folder, so it is empty here."""


def changed_manifests(lab: Lab) -> Iterator[tuple[Path, str]]:
    """Manifests that differ from what the ledger recorded when their run ended, and how."""
    recorded = _recorded_hashes(lab)
    for path in sorted((lab.root / "experiments").glob("*/runs/*/run_manifest.json")):
        run_id = path.parent.name
        folder = "" if run_id.startswith("reproduction") else path.parts[-4]
        hashes = recorded.get((folder, run_id))
        # Under way, abandoned, or older than a ledger that was begun anew.
        if not hashes or None in hashes:
            continue
        try:
            sha = files.sha256_of_file(path)
        except OSError as error:
            yield path, f"cannot be read: {error.strerror}"
            continue
        if sha not in hashes:
            yield path, "is not the one that the ledger recorded when the run ended"


def _recorded_hashes(lab: Lab) -> dict[Run, set[str | None]]:
    """The hashes of the manifests with which each run ended; none for a run under way, None for an abandoned one."""
    hashes: dict[Run, set[str | None]] = {}
    iteration = ""
    # This reads one key of each line of the whole history, so no line is parsed into its class.
    for line in lab.ledger.lines():
        if line.event == events.Transition.KIND:
            iteration = line.data["state"]["iteration_id"] or ""
        if line.event not in (events.RunStarted.KIND, events.RunEnded.KIND):
            continue
        run_id = line.data["run_id"]
        folder = iteration
        between = next((name for name in (calibration.FOLDER, manual_evaluation.FOLDER) if run_id.startswith(name)), "")
        if between:
            folder = between
        elif run_id.startswith("reproduction"):
            folder = ""
        run = hashes.setdefault((folder, run_id), set())
        if line.event == events.RunEnded.KIND:
            run.add(line.data["manifest_sha256"])
    return hashes


def restore(lab: Lab, path: Path, newest_logs: dict[str, str]) -> str:
    """Put a document of an iteration aside and bring it back from the record in git; what came of it."""
    copy = put_aside(lab.store, path)
    iteration_id = path.relative_to(lab.root / "experiments").parts[0]
    commit = newest_logs.get(iteration_id)
    if commit is not None:
        names = lab.git.restore_missing(commit, lab.root)
        if str(path.relative_to(lab.root)) in names:
            return f"brought back from the record; the old one is {copy}"
    return f"put aside as {copy}; git has no record of it: `autolab reproduce` measures such a run again"


# the table of results


def table_columns(lab: Lab) -> Sequence[str]:
    """The columns of the lab's table of results, which may have been begun before one was added."""
    path = lab.root / lab.config().files.table
    if not path.is_file():
        return COLUMNS
    header = path.read_bytes().split(b"\n", 1)[0]
    return columns_of(header.decode(errors="surrogateescape")) or COLUMNS


def short_rows(lab: Lab) -> list[int]:
    """Lines of the table of results that do not have as many cells as it has columns."""
    path = lab.root / lab.config().files.table
    if not path.is_file():
        return []
    numbers = []
    tabs = len(table_columns(lab)) - 1
    # Of bytes: a torn row may end in the middle of a character.
    for number, row in enumerate(path.read_bytes().split(b"\n"), 1):
        if row.strip() and row.count(b"\t") != tabs:
            numbers.append(number)
    return numbers


def fix_table(lab: Lab) -> Iterator[str]:
    """Take out rows that lack cells, and add missing rows from the record of their runs; a line if it does so."""
    short = short_rows(lab)
    if not short:
        return
    name = lab.config().files.table
    columns = table_columns(lab)
    copy = put_aside(lab.store, lab.root / name)
    header = "\t".join(columns)
    rows = [header]
    lines = copy.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip() and line != header and number not in short:
            rows.append(line)
    present = {identity(row, columns) for row in rows}
    recorded = [in_form(row, columns) for row in _recorded_rows(lab)]
    restored = [row for row in recorded if identity(row, columns) not in present]
    text = "\n".join([*rows, *restored, ""]).encode(errors="surrogateescape")
    files.write_whole(lab.root / name, text)
    # Else the next entry would report the repair as a change by somebody else.
    hashes = journal.known(lab.documents_path) | {name: files.sha256_of(text)}
    files.write_whole(lab.documents_path, json.dumps(hashes))
    lines_taken_out = f"line {short[0]}"
    if len(short) > 1:
        lines_taken_out += f" and {len(short) - 1} more"
    yield (
        f"{name}: {lines_taken_out}: cells were missing; taken out, {len(restored)} rows written again from the"
        f" record; the old table is {copy}"
    )


def _ideas(paths: IterationPaths, manifest: Manifest, results: Results) -> dict[str, str]:
    """What the table says of each arm of a batch: its title, and what became of it."""
    found = {}
    for arm in manifest.arms:
        if arm.role == "baseline":
            found[arm.name] = f"the base of {results.iteration_id.rpartition('_')[2]}"
            continue
        path = paths.of_arm(arm.name).hypothesis
        yaml, _ = front_matter.split(read_document(path, str(path)), str(path))
        title = Hypothesis.from_text(yaml, str(path)).title
        _, _, standing = results.results.experiments[arm.name].finding.rpartition("; ")
        found[arm.name] = f"{title}; {standing}"
    return found


def _recorded_rows(lab: Lab) -> Iterator[str]:
    """The rows of every finished iteration and of every run of `autolab eval`, from their manifests."""
    for record in sorted((lab.root / "experiments").glob("[0-9]*/record.json")):
        paths = lab.iteration(record.parent.name)
        results = Results.load(paths.results)
        heading = re.search(r"(?m)^# (.+)$", paths.hypothesis.read_text(encoding="utf-8"))
        title = heading[1] if heading else ""
        for path in sorted((paths.folder / "runs").glob("run_*/run_manifest.json")):
            manifest = Manifest.load(path)
            metrics_path = path.with_name("metrics.json")
            metrics = RunMetrics.load(metrics_path) if metrics_path.exists() else None
            metric = manifest.metric or lab.config().metric.primary
            if manifest.kind is RunKind.SCREEN:
                yield from screen_rows(manifest, metrics, metric, _ideas(paths, manifest, results)).split("\n")
                continue
            entry = iteration_documents.tsv_rows(manifest, metrics, metric, title, results.confirmation)
            yield from entry.text.split("\n")
    runs = lab.iteration(manual_evaluation.FOLDER).folder / "runs"
    recorded = _recorded_hashes(lab)
    for path in sorted(runs.glob("manual_*/run_manifest.json")):
        hashes = recorded.get((manual_evaluation.FOLDER, path.parent.name), set())
        # A run that goes on, or was abandoned, has no row.
        if files.sha256_of_file(path) in hashes:
            yield from manual_evaluation.manual_rows(Manifest.load(path), lab.config()).text.split("\n")
