"""What `doctor --fix` does about damaged files of a lab's record: each is put aside and, where it can be, made again.

    PLAIN      files of the store and views of `.autolab/`, which have to be regular files that the user may read
    FOLDERS    the folders beside them
    CONTENTS   files whose form is known, and how each is made again from the ledger, from git or from its other copy

What is put aside lies in `.git/autolab/aside/`. What cannot be made again is said with the way out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from autolab import files
from autolab.errors import AutolabError, LabError, LedgerError, RecordError
from autolab.ideas.lessons import EVENT, stored
from autolab.lab.git import Git
from autolab.lab.lab import Lab
from autolab.lab.ledger import Ledger
from autolab.lab.schemas.campaign import Backlog, Campaign, State
from autolab.lab.schemas.experiment import Calibration, Manifest, Results, RunMetrics
from autolab.lab.schemas.outcomes import Stage
from autolab.reports import iteration_documents, journal
from autolab.reports.journal import Pending
from autolab.reports.results_table import COLUMNS
from autolab.trials import calibration, seal

RECORD = ("ledger.jsonl", "head", "secret")
PLAIN = (
    *RECORD,
    *("lock", "stop", "documents.json", "lessons.jsonl", "calibration.json", "containment.json", "backlog.yaml"),
    *("interpreter", "campaign.json", "control/config.yaml", "control/verifier_policy.yaml"),
)
VIEWS = ("state.json", "backlog.yaml", "calibration.json", "lock", "agent_result.json")
FOLDERS = (
    *("aside", "bytecode", "control", "exports", "fetched", "held", "pending", "plans", "requests"),
    *("runs", "seals", "trials"),
)
WAY_OUT = "`autolab doctor --fix` puts it aside and makes it again"


def _places(store: Path, control: Path) -> Iterator[tuple[Path, bool]]:
    """Every path that has a fixed kind, and whether it is a folder; folders first."""
    yield from ((folder, True) for folder in (store, control, *(store / name for name in FOLDERS)))
    yield from ((store / name, False) for name in PLAIN)
    yield from ((control / name, False) for name in VIEWS)
    yield from ((path, False) for path in sorted(store.glob("control/prompts/*")))
    yield from ((path, False) for name in ("seals", "pending") for path in sorted(store.glob(f"{name}/*.json")))


def _odd(path: Path, folder: bool) -> str:
    """What is wrong with the kind of a path, or with its access; empty if nothing, or if nothing is there."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    kinds = {stat.S_ISLNK: "a link", stat.S_ISDIR: "a folder", stat.S_ISREG: "a file"}
    kind = next((name for test, name in kinds.items() if test(mode)), "neither file nor folder")
    wanted = "a folder" if folder else "a file"
    if kind != wanted:
        return f"is {kind}, where {wanted} belongs"
    wish = os.R_OK | os.W_OK | (os.X_OK if folder else 0)
    return "" if os.access(path, wish) else "cannot be read and written by you"


def odd(lab: Lab) -> Iterator[str]:
    """A line for each path of the record that is of the wrong kind, or that the user has no access to."""
    for path, folder in _places(lab.store, lab.control):
        why = _odd(path, folder)
        if why:
            yield f"{path}: {why}; {WAY_OUT}"


def straighten(store: Path, control: Path) -> Iterator[str]:
    """Give every path of the record its kind and its access back; a line for each. No lock can be held before this."""
    for path, folder in _places(store, control):
        why = _odd(path, folder)
        if not why:
            continue
        if "read and written" in why:
            path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o700 if folder else 0o600))
            yield f"{path}: {why}: its permissions were fixed"
            continue
        content = (
            path.read_bytes() if path.is_symlink() and path.is_file() and not folder and path.name != "lock" else None
        )
        copy = put_aside(store, path)
        if content is not None:
            files.write_whole(path, content)
        what = f"; what it led to was copied in its place (sha256 {files.sha256_of(content)[:12]})" if content else ""
        yield f"{path}: {why}: put aside as {copy}{what}"


def put_aside(store: Path, path: Path) -> Path:
    """Move what lies at `path`, a link itself and not what it leads to, into `aside/`; where it lies now."""
    place = store / "aside"
    place.mkdir(exist_ok=True)
    number = len(list(place.glob(f"{path.name}.*")))
    copy = place / f"{path.name}.{number}"
    shutil.move(path, copy)
    return copy


# files whose form is known


def _documents(lab: Lab, path: Path) -> object:
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict) or not all(isinstance(sha, str) for sha in value.values()):
        raise LabError("not an object of hashes")
    return value


def _documents_again(lab: Lab, path: Path) -> str:
    """As the ledger says that the engine left each of them."""
    written = {
        str(line.data["path"]): line.data["sha256"] for line in lab.ledger.lines() if line.event == "document_written"
    }
    files.write_whole(path, json.dumps(written))
    return "made again from the ledger"


def _lessons_again(lab: Lab, path: Path) -> str:
    return "the next command makes it again from the ledger"


def _calibration_again(lab: Lab, path: Path) -> str:
    newest = None
    for line in lab.ledger.lines():
        if line.data.get("why") == "calibrated":
            newest = line.data["calibration"]
    if newest is None:
        return "the lab is calibrated anew"
    for folder in (lab.control, lab.store):
        files.write_whole(folder / "calibration.json", Calibration.from_value(newest, "ledger.jsonl").to_json())
    return "made again from the ledger"


def _backlog_again(lab: Lab, path: Path) -> str:
    other = lab.backlog_path if path != lab.backlog_path else lab.store / "backlog.yaml"
    try:
        found = Backlog.load(other, str(other)) if other.is_file() else None
    except RecordError:
        found = None
    lab.show_backlog(found or Backlog())
    return f"taken from {other}" if found else "begun anew; what was tried stands in experiments/ and in the ledger"


def _seal_again(lab: Lab, path: Path) -> str:
    """Without its seal nobody knows what an export held: it is put aside too, and made again from git."""
    exports = lab.store / "exports"
    sealed = [export for export in exports.glob("*") if path.name.removesuffix(".json").startswith(export.name)]
    for export in sealed:
        os.chmod(export, 0o755)
        put_aside(lab.store, export)
    return "what it sealed is exported and sealed anew by the next run"


def _pending_again(lab: Lab, path: Path) -> str:
    name = path.name.partition("-")[2].removesuffix(".json")
    return f"an entry of {name} for a document is lost; its numbers stand in experiments/"


Reader = Callable[[Lab, Path], object]
Maker = Callable[[Lab, Path], str]
CONTENTS: tuple[tuple[str, Reader, Maker], ...] = (
    ("documents.json", _documents, _documents_again),
    ("lessons.jsonl", lambda lab, path: stored(path), _lessons_again),
    ("calibration.json", lambda lab, path: calibration.current_calibration(lab), _calibration_again),
    ("backlog.yaml", lambda lab, path: lab.backlog(), _backlog_again),
    ("seals/*.json", lambda lab, path: seal.read(path), _seal_again),
    ("pending/*.json", lambda lab, path: Pending(path.parent).read(path), _pending_again),
)
"""Where it lies in the store, what reads it, and what makes it again once it was put aside."""


def damaged(lab: Lab) -> Iterator[tuple[Path, str, Maker]]:
    """Files that are not of their form: where, why, and what makes each again."""
    for pattern, read, again in CONTENTS:
        for path in sorted(lab.store.glob(pattern)):
            try:
                read(lab, path)
            except (AutolabError, ValueError, TypeError, KeyError) as error:
                why = str(error).removeprefix(f"{path}: ").partition("; `autolab doctor")[0]
                yield path, f"{path}: not as Autolab wrote it: {' '.join(why.split())[:200]}", again
            except OSError:
                continue  # of the wrong kind, which is said elsewhere


def fix(lab: Lab) -> Iterator[str]:
    """Put aside what is not of its form and make it again; a line for each. The caller holds the lock."""
    for path, why, again in list(damaged(lab)):
        copy = put_aside(lab.store, path)
        yield f"{why}; put aside as {copy}; {again(lab, path)}"
    try:
        Backlog.load(lab.backlog_path)
    except RecordError as error:
        if lab.backlog_path.is_file():
            copy = put_aside(lab.store, lab.backlog_path)
            yield f"{error}; put aside as {copy}; {_backlog_again(lab, lab.backlog_path)}"


# a ledger of which nothing is left


def begin_anew(lab: Lab, lost: int) -> str:
    """A new chain where the old one holds no transition any more: what is left is taken over, what is lost is said.

    LabError: neither a campaign nor a configuration is left to begin from.
    """
    state, campaign, known = _last(lab)
    open_one = state.iteration_id
    lessons = _lessons(lab)
    branch = campaign.home_branch or lab.git.branch()
    if branch is None:
        raise LabError(f"{lab.root}: no branch is checked out; run `git switch BRANCH`, then again")
    told = {"lost": lost, "iterations": campaign.iterations, "open": open_one, "campaign": known}
    lab.ledger.append("ledger_begun_anew", told)
    for lesson in lessons:
        lab.ledger.append(EVENT, {"lesson": lesson})
    learned = str(lessons[-1]["iteration_id"]) if lessons else None
    update = {"home_branch": branch, "loop": None, "learned": learned, "iteration_offset": lab.ledger.head.size}
    begun = campaign.model_copy(update=update | {"home_commit": campaign.home_commit or lab.git.head()})
    fresh = state.model_copy(update={"stage": Stage.HYPOTHESIS, "iteration_id": None, "reason": "", "stage_attempt": 1})
    lab.transition(fresh, begun, why="ledger_begun_anew")
    what = (
        f"{campaign.iterations} iterations are counted, {len(lessons)} lessons and {len(campaign.champions)} champions"
    )
    gone = "the lines of what happened before"
    gone += f", the open iteration {open_one}" if open_one else ""
    gone += "" if known else ", what the campaign had spent and claimed, its champions"
    return f"the ledger held no transition any more: begun anew; {what} were taken over; lost: {gone}"


def _last(lab: Lab) -> tuple[State, Campaign, bool]:
    """State and campaign as they were noted last, and whether the campaign is what it was and not put together."""
    try:
        value = json.loads((lab.store / "campaign.json").read_bytes())
        state = State.from_value(value["state"], "campaign.json: state")
        return state, Campaign.from_value(value["campaign"], "campaign.json: campaign"), True
    except (OSError, ValueError, TypeError, KeyError, RecordError):
        pass
    config = lab.config()
    records = sorted((lab.root / "experiments").glob("[0-9]*/record.json"))
    names = [path.parent.name.rpartition("_h")[2] for path in records]
    hypotheses = max((int(name) for name in names if name.isdecimal()), default=0)
    return State.first(config), Campaign(iterations=len(records), hypotheses=hypotheses), False


def _lessons(lab: Lab) -> list[dict[str, object]]:
    try:
        return [lesson.value() for lesson in stored(lab.store / "lessons.jsonl")]
    except (AutolabError, OSError):
        return []


def lost_lines(lab: Lab) -> str:
    """What a ledger that was begun anew has lost, for whoever reads it later; empty where none was."""
    told = [line for line in lab.ledger.lines() if line.event == "ledger_begun_anew"]
    return f"begun anew on {told[-1].time[:10]}, after {told[-1].data['lost']} lines were lost" if told else ""


def has_transition(ledger: Ledger) -> bool:
    """Whether a state can be read from it."""
    try:
        return ledger.transition() is not None
    except (LedgerError, OSError):
        return False


# what the ledger holds by hash


Run = tuple[str, str]
"""Folder in experiments/ and id of a run; a reproduction's folder is not told by its lines, and empty here."""


def manifests(lab: Lab) -> Iterator[tuple[Path, str]]:
    """Manifests that are not what the ledger recorded when their run ended, and why."""
    ended = _ended_runs(lab)
    for path in sorted((lab.root / "experiments").glob("*/runs/*/run_manifest.json")):
        run_id = path.parent.name
        known = ended.get(("" if run_id.startswith("reproduction") else path.parts[-4], run_id))
        if not known or None in known:
            continue  # under way, abandoned, or of before a ledger that was begun anew
        try:
            sha = files.sha256_of_file(path)
        except OSError as error:
            yield path, f"cannot be read: {error.strerror}"
            continue
        if sha not in known:
            yield path, "is not the one that the ledger recorded when the run ended"


def _ended_runs(lab: Lab) -> dict[Run, set[str | None]]:
    """The hashes of the manifests with which each run that is over ended."""
    ended: dict[Run, set[str | None]] = {}
    iteration = ""
    for line in lab.ledger.lines():
        if line.event == "transition":
            iteration = line.data["state"]["iteration_id"] or ""
        if line.event not in ("run_started", "run_ended"):
            continue
        run_id = str(line.data["run_id"])
        folder = "" if run_id.startswith("reproduction") else iteration
        run = ("calibration" if run_id.startswith("calibration") else folder, run_id)
        if line.event == "run_started":
            ended.setdefault(run, set())
        else:
            ended.setdefault(run, set()).add(line.data["manifest_sha256"])
    return ended


def restore(lab: Lab, git: Git, path: Path, newest: dict[str, str]) -> str:
    """Put a document of an iteration aside and bring it back from the record in git; what came of it."""
    name = str(path.relative_to(lab.root))
    copy = put_aside(lab.store, path)
    commit = newest.get(path.relative_to(lab.root / "experiments").parts[0])
    if commit is not None and name in git.restore_missing(commit, lab.root):
        return f"brought back from the record; the old one is {copy}"
    return f"put aside as {copy}; no record of it is in git: `autolab reproduce` measures such a run again"


# the table of results


def short_rows(lab: Lab) -> list[int]:
    """Lines of the table of results that have not as many cells as it has columns."""
    path = lab.root / lab.config().files.table
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    return [number for number, row in enumerate(lines, 1) if row.strip() and row.count(b"\t") != len(COLUMNS) - 1]


def fix_table(lab: Lab) -> Iterator[str]:
    """Take out rows that lack cells and write those of the iterations again from their records; a line, if it does."""
    wrong = short_rows(lab)
    if not wrong:
        return
    path = lab.root / lab.config().files.table
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    copy = put_aside(lab.store, path)
    kept = [row for number, row in enumerate(lines, 1) if number not in wrong and row.strip()]
    kept = kept if kept[:1] == ["\t".join(COLUMNS)] else ["\t".join(COLUMNS), *kept]
    known = {tuple(row.split("\t")[1:4]) for row in kept}
    again = [row for row in _recorded_rows(lab) if tuple(row.split("\t")[1:4]) not in known]
    text = "\n".join([*kept, *again, ""]).encode(errors="surrogateescape")
    files.write_whole(path, text)
    said = journal.known(lab.documents_path) | {lab.config().files.table: files.sha256_of(text)}
    files.write_whole(lab.documents_path, json.dumps(said))
    yield (
        f"{path.name}: line {wrong[0]}{f' and {len(wrong) - 1} more' if wrong[1:] else ''}: cells were missing; taken"
        f" out, {len(again)} rows written again from the iterations' records; the old table is {copy}"
    )


def _recorded_rows(lab: Lab) -> Iterator[str]:
    """The rows of every finished iteration, from its manifests."""
    for record in sorted((lab.root / "experiments").glob("[0-9]*/record.json")):
        paths = lab.iteration(record.parent.name)
        results = Results.load(paths.results)
        title = next(iter(re.findall(r"(?m)^# (.+)$", paths.hypothesis.read_text(encoding="utf-8"))), "")
        for manifest in map(Manifest.load, sorted((paths.folder / "runs").glob("run_*/run_manifest.json"))):
            measured = paths.run(manifest.run_id).folder / "metrics.json"
            metrics = RunMetrics.load(measured) if measured.exists() else None
            metric = manifest.metric or lab.config().metric.primary
            yield from iteration_documents.tsv_rows(manifest, metrics, metric, title, results.confirmation).text.split(
                "\n"
            )
