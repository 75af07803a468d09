"""The engine's documents in the person's checkout: how an entry gets in, and what it says.

An `Entry` is put into its file once, by its id; what stood there stays, byte for byte. Entries wait in
`Pending` while the checkout is not the lab's (another branch, a merge), and every step may be killed and
done again. The builders are pure: an `Account` of records in, entries out; no number is typed by hand.

Cost: a journal is read and written whole and is bounded by its roll-over; `results.tsv` and the paper
targets are copied whole on each entry (they have no roll-over), but searched in their last 256 KiB only.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from autolab import durable, fault
from autolab.errors import LabError, RecordError
from autolab.records.experiment import (
    ArmMetrics,
    Comparison,
    Design,
    Hypothesis,
    Interval,
    Manifest,
    Results,
    RunMetrics,
    Trial,
)
from autolab.records.outcomes import Outcome, Verdict
from autolab.records.replies import DocsOutput

Place = Literal["top", "row", "section", "file"]

JOURNAL, FINDINGS, TABLE = "RESEARCH_JOURNAL.md", "FINDINGS.md", "results.tsv"
COLUMNS = (
    *("commit", "iteration", "run", "arm", "n", "metric", "value", "ci_low", "ci_high"),
    *("verdict", "status", "memory_gb", "seconds", "description"),
)
ROLL_OVER = 256 * 1024
"""Bytes past which a journal closes its older part; KEPT bytes of whole entries, at least one, stay."""
KEPT = 64 * 1024
SEARCHED = 256 * 1024
"""Bytes from the head or the tail of a file in which an id is looked for."""
WORDS = 5_000
"""Characters that an entry quotes of one answer."""
ROUNDS = 5
"""How often a write starts again because a person's program changed the file meanwhile."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_BEGIN = "<!-- autolab:"


@dataclass(frozen=True)
class Entry:
    """One text for one document.

    `path` is relative to the lab. `place`: `top` (above everything), `row` (lines of results.tsv, at the
    end), `section` (at the end, between markers), `file` (the whole file, written once).
    """

    id: str
    path: str
    text: str
    place: Place

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise RecordError(f"document entry: {self.id!r} is not an id; use letters, digits and . _ : -")
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or "\0" in self.path:
            raise RecordError(f"document entry {self.id}: {self.path!r} is not a path inside the lab")

    @property
    def marker(self) -> str:
        return f"{_BEGIN}{self.id} -->"

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, file: str) -> Entry:
        """RecordError, naming `file`, on anything that `to_json` did not write."""
        try:
            value = json.loads(text)
            entry = cls(**value)
        except (ValueError, TypeError) as error:
            raise RecordError(f"{file}: not a waiting document entry: {error}") from None
        strings = (entry.id, entry.path, entry.text, entry.place)
        if not all(isinstance(part, str) for part in strings) or entry.place not in ("top", "row", "section", "file"):
            raise RecordError(f"{file}: not a waiting document entry: a field has the wrong type")
        return entry


@dataclass(frozen=True)
class Closed:
    """The part of a journal that a roll-over closed."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Written:
    """What became of an entry; hashes are of the whole file. `changed` is False if the id was there already."""

    path: str
    sha256_before: str | None
    sha256_after: str
    changed: bool
    closed: Closed | None = None


# --- into the file -------------------------------------------------------------------------------


def write(root: Path, entry: Entry) -> Written:
    """Put `entry` into its file under `root`, atomically, if its id is not there yet.

    The file keeps its mode. A `file` that exists is never touched, whoever wrote it. LabError on a
    symbolic link, a path that is no plain file, a full disk or a read-only folder, a table with other
    columns, and a file that keeps changing while it is written.
    """
    path = _inside(root, entry.path)
    try:
        for _ in range(ROUNDS):
            written = _attempt(path, entry)
            if written is not None:
                return written
    except OSError as error:
        reason = error.strerror or error
        raise LabError(f"{entry.path}: cannot be written: {reason}: make room or access, then run again") from None
    raise LabError(
        f"{entry.path}: keeps changing while an entry is added: end the program that writes it, then run again"
    )


def _attempt(path: Path, entry: Entry) -> Written | None:
    """One try; None if the file changed between reading and renaming."""
    old = _Snapshot.of(path)
    before = None if old.data is None else durable.sha256(old.data)
    new = _joined(old.data, entry, path)
    if new is None:
        assert before is not None
        return Written(entry.path, before, before, changed=False)
    closed = None
    if entry.place == "top" and len(new) > ROLL_OVER:
        new, closed = _roll(path, entry, new, old.data or b"")
    if not _replace(path, new, old):
        return None
    return Written(entry.path, before, durable.sha256(new), changed=True, closed=closed)


def _joined(old: bytes | None, entry: Entry, path: Path) -> bytes | None:
    """The file with the entry in it; None if the entry is there already."""
    if entry.place == "row":
        return _with_rows(old, entry)
    text = entry.text.strip("\r\n").replace("\r\n", "\n").replace(_BEGIN, "&lt;!-- autolab:")
    text = text.replace("<!-- /autolab:", "&lt;!-- /autolab:")
    if entry.place == "file":
        return None if old is not None else f"{text}\n\n{entry.marker}\n".encode()
    marker, old = entry.marker.encode(), old or b""
    if entry.place == "section":
        if marker in old[-SEARCHED:]:
            return None
        section = f"{entry.marker}\n{text}\n<!-- /autolab:{entry.id} -->\n".encode()
        return old + (b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n") + section
    if marker in old[:SEARCHED] or marker in _newest_closed(path):
        return None
    return f"{entry.marker}\n{text}\n".encode() + (b"\n" + old if old else b"")


def _with_rows(old: bytes | None, entry: Entry) -> bytes | None:
    """Append the rows that the tail does not hold yet; iteration, run and arm are a row's identity."""
    old = old or b""
    header = "\t".join(COLUMNS).encode()
    if old and old.split(b"\n", 1)[0].removesuffix(b"\r") != header:
        columns = " ".join(COLUMNS)
        raise LabError(f"{entry.path}: line 1: other columns than {columns}: move the file away, then run again")
    here = {tuple(line.split(b"\t")[1:4]) for line in old[-SEARCHED:].split(b"\n")}
    rows = [row.encode() for row in entry.text.split("\n") if row.strip()]
    missing = [row for row in rows if tuple(row.split(b"\t")[1:4]) not in here]
    if not missing:
        return None if old else header + b"\n"
    start = header + b"\n" if not old else old if old.endswith(b"\n") else old + b"\n"
    return start + b"\n".join(missing) + b"\n"


def _roll(path: Path, entry: Entry, new: bytes, old: bytes) -> tuple[bytes, Closed | None]:
    """Close the older entries of `new` into `<name>.<n>.md`; newest part + closed part are `new`, byte for byte.

    The closed part is on disk before the journal loses it. If a roll-over was killed in between, the
    closed part is still the end of the journal: it is taken as it is.
    """
    entry_ends = len(new) - len(old)
    number, last = _last_closed(path)
    if last and old.endswith(last) and (old == last or last.startswith(_BEGIN.encode())):
        kept, older, target = new[: -len(last)], last, path.with_name(f"{path.stem}.{number}{path.suffix}")
    else:
        starts = [match.start() for match in re.finditer(rb"(?m)^<!-- autolab:", new) if match.start() >= entry_ends]
        cut = max((start for start in starts if start <= KEPT), default=entry_ends)
        kept, older = new[:cut], new[cut:]
        if not older:
            return new, None
        target = path.with_name(f"{path.stem}.{number + 1}{path.suffix}")
        if not _replace(target, older, _Snapshot.of(target)):
            raise LabError(f"{target.name}: was made by another program meanwhile: move it away, then run again")
        fault.point("document.after_write")
    shown = str(PurePosixPath(entry.path).with_name(target.name))
    return kept, Closed(shown, durable.sha256(older))


def _last_closed(path: Path) -> tuple[int, bytes | None]:
    """Number and content of the newest closed part; 0 and None if there is none."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.([1-9][0-9]*){re.escape(path.suffix)}")
    matches = (pattern.fullmatch(name) for name in (os.listdir(path.parent) if path.parent.is_dir() else ()))
    number = max((int(match[1]) for match in matches if match), default=0)
    if number == 0:
        return 0, None
    return number, _Snapshot.of(path.with_name(f"{path.stem}.{number}{path.suffix}")).data


def _newest_closed(path: Path) -> bytes:
    """The head of the newest closed part, where an id may have gone since it was written."""
    return (_last_closed(path)[1] or b"")[:SEARCHED]


@dataclass(frozen=True)
class _Snapshot:
    """A file as it was read, and what tells whether it is still the same; `data` None is no file."""

    data: bytes | None
    mode: int = 0
    identity: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path) -> _Snapshot:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return cls(None)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise LabError(f"{path.name}: not a plain file: move it away, then run again")
            return cls(file.read(), stat.S_IMODE(status.st_mode), _identity(status))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _replace(path: Path, data: bytes, old: _Snapshot) -> bool:
    """Put `data` in the place of `old`; False, and nothing done, if the file is no longer what was read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.autolab-tmp")
    temporary.unlink(missing_ok=True)  # of a write that was killed; only the holder of the lock writes
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            if old.data is not None:
                os.fchmod(file.fileno(), old.mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if _now(path) != old.identity:
            return False
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    durable.sync_folder(path.parent)
    return True


def _now(path: Path) -> tuple[int, ...]:
    try:
        return _identity(os.lstat(path))
    except FileNotFoundError:
        return ()


def _inside(root: Path, relative: str) -> Path:
    """The path under `root`; LabError if a part of it is a symbolic link or the end is no plain file."""
    path = root
    for part in PurePosixPath(relative).parts:
        path = path / part
        if path.is_symlink():
            shown = path.relative_to(root)
            raise LabError(f"{shown}: is a symbolic link; the engine writes plain files only: replace it by the file")
    if path.exists() and not path.is_file():
        raise LabError(f"{relative}: not a plain file: move it away, then run again")
    return path


# --- the queue -----------------------------------------------------------------------------------


class Pending:
    """Entries that wait for the checkout, one file each (`<seq>-<id>.json`), in the order they were added.

    Killed anywhere, nothing is lost or doubled: an entry leaves the queue after it is in its document,
    and a document takes an id once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, entry: Entry) -> None:
        """Queue `entry`, unless one with its id for its path waits already."""
        files = self._files()
        twins = [path for path in files if path.name.partition("-")[2] == f"{entry.id}.json"]
        if any(self._read(path).path == entry.path for path in twins):
            return
        number = int(files[-1].name.partition("-")[0]) + 1 if files else 1
        durable.write(self.folder / f"{number:012d}-{entry.id}.json", entry.to_json())
        fault.point("document.after_queue")

    def waiting(self) -> list[Entry]:
        return [self._read(path) for path in self._files()]

    def forget(self, entry: Entry) -> None:
        """Take a written entry out of the queue; nothing if it is not there."""
        for path in self._files():
            if path.name.partition("-")[2] == f"{entry.id}.json" and self._read(path).path == entry.path:
                path.unlink()
                durable.sync_folder(self.folder)

    def flush(self, root: Path, allowed: bool) -> list[Written]:
        """Write what waits, oldest first, and forget each after it is written; nothing if not `allowed`."""
        written = []
        for entry in self.waiting() if allowed else ():
            written.append(write(root, entry))
            fault.point("document.after_write")
            self.forget(entry)
        return written

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if re.match(r"\d{12}-.+\.json$", path.name))

    def _read(self, path: Path) -> Entry:
        try:
            return Entry.from_json(path.read_text(encoding="utf-8"), path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"{path.name}: cannot be read: {error}") from None


# --- what the documents say ----------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """One iteration as its documents tell it. Numbers come from the records, words from `docs`."""

    iteration_id: str
    slug: str
    hypothesis: Hypothesis
    design: Design
    results: Results
    docs: DocsOutput
    manifest: Manifest | None = None
    metrics: RunMetrics | None = None
    decision: str | None = None
    confirmed: bool = False

    @property
    def date(self) -> str:
        """The iteration's UTC date."""
        return self.iteration_id[:10]

    @property
    def title(self) -> str:
        return _line(self.hypothesis.title)

    @property
    def self_reported(self) -> bool:
        return self.metrics.self_reported if self.metrics else bool(self.manifest and self.manifest.self_reported)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return self.results.assessment.comparisons or (self.metrics.comparisons if self.metrics else ())

    @property
    def outcome(self) -> str:
        """The verdict in a heading: `supported, unconfirmed`, `refuted`, `failed`."""
        verdict = self.results.assessment.verdict
        if verdict is None:
            return "failed" if self.results.status == "failed" else "unmeasured"
        return "supported, unconfirmed" if verdict is Verdict.SUPPORTED and not self.confirmed else verdict.value


def verdict_sentence(account: Account) -> str:
    """What the verdict means, in plain words."""
    assessment, delta = account.results.assessment, f"{account.design.metrics.success_delta:g}"
    metric, reason = account.design.metrics.primary, _reason(assessment.reason)
    missed = sorted(name for name, how in assessment.criteria.items() if how in ("below_acceptable", "failed"))
    if assessment.verdict is None and account.results.status == "failed":
        why = _line(account.results.error or assessment.reason).rstrip(".") or "no reason was recorded"
        return f"The experiment failed, so it says nothing about the hypothesis: {why}."
    if assessment.verdict is None:
        return f"Nothing was measured, so there is no verdict{reason}."
    if assessment.verdict is Verdict.INCONCLUSIVE:
        return f"The measurements neither show the expected gain nor rule it out{reason}."
    if assessment.verdict is Verdict.REFUTED and missed:
        return f"The hypothesis is refuted: {', '.join(missed)} missed what was set before the run."
    if assessment.verdict is Verdict.REFUTED:
        return f"The hypothesis is refuted: the evidence rules out a gain of {delta} in {metric}{reason}."
    held = "was measured again on fresh seeds" if account.confirmed else "is unconfirmed until fresh seeds repeat it"
    wanted = f"a gain of {delta} in {metric}" if account.comparisons else "criteria set before the run"
    return f"The evidence supports the hypothesis, which asked for {wanted}; the result {held}."


def journal_entry(account: Account) -> Entry:
    """RESEARCH_JOURNAL.md: observation, inference and claim apart."""
    text = _blocks(
        f"## {account.date} · {account.title} · {account.outcome}",
        _provenance(account),
        verdict_sentence(account),
        f"**Observation** ({'self-reported numbers' if account.self_reported else 'measured'})",
        _measurements(account),
        _prose(account.docs.observation),
        "**Inference** (interpretation)",
        _prose(account.docs.inference) or "None was drawn.",
        "**Claim** (what is asserted, and no more)",
        _prose(account.docs.claim) or "None.",
        f"**Decision** {_line(account.decision)}" if account.decision else "",
    )
    return Entry(account.iteration_id, JOURNAL, text, "top")


def findings_entry(account: Account) -> Entry:
    """FINDINGS.md of the project: one entry an iteration, in seed 002's shape."""
    text = _blocks(
        f"## {account.date} · {account.hypothesis.id}: {account.title}",
        f"{_status(account)} | Verdict: {account.outcome.upper()}",
        verdict_sentence(account),
        _key_metrics(account),
        f"Details: experiments/{account.iteration_id}/FINDINGS.md",
    )
    return Entry(account.iteration_id, FINDINGS, text, "top")


def iteration_findings(account: Account) -> Entry:
    """experiments/<ITERATION_ID>/FINDINGS.md in seed 002's shape."""
    text = _blocks(
        f"# {account.hypothesis.id.upper()}: {account.title} - Findings",
        f"## {_status(account)}",
        "## Summary",
        verdict_sentence(account),
        _prose(account.docs.observation),
        "\n".join(f"- {_line(finding)}" for finding in account.results.findings),
        "## Key Metrics",
        _key_metrics(account),
        _arm_table(account),
        "## Implications",
        _prose(account.docs.inference) or "None was drawn.",
        "## Claim",
        _prose(account.docs.claim) or "None.",
        "## Evidence",
        _evidence(account),
    )
    return Entry(account.iteration_id, f"experiments/{account.iteration_id}/FINDINGS.md", text + "\n", "file")


_HEADING_WORDS: Mapping[str, tuple[str, ...]] = {
    "Question": ("question", "hypothesis", "idea", "motivation", "summary"),
    "Method": ("method", "design", "setup", "tried", "done", "implementation"),
    "Results": ("result", "metric", "number"),
    "Observation": ("observation", "observed"),
    "Inference": ("inference", "interpretation", "learn", "discussion"),
    "Claim": ("claim", "conclusion", "verdict"),
    "Limits": ("limit", "risk", "caveat", "threat"),
    "Evidence": ("evidence", "reproduc", "artifact", "provenance"),
    "Next": ("next", "decision", "future"),
}
"""The parts of a report, in order, and the words by which a template's heading is known to mean them."""


def report(account: Account, template: str | None) -> Entry:
    """9_reports/<date>_<slug>.md under the `## ` headings of `9_reports/_TEMPLATE.md`.

    A heading that means no part of a report is kept and says so; a part without a heading stands where it
    belongs among the others, so that no template loses the numbers.
    """
    parts, blocks = _report_parts(account), [f"# {account.title}", _provenance(account)]
    meant: dict[str, str | None] = {}
    for heading in re.findall(r"(?m)^##[ \t]+(.+?)[ \t]*\r?$", template or ""):
        free = [name for name in _HEADING_WORDS if name not in meant.values()]
        meant[heading] = next((name for name in free if any(w in heading.lower() for w in _HEADING_WORDS[name])), None)
    missing = [name for name in _HEADING_WORDS if name not in meant.values()]
    order = list(_HEADING_WORDS)
    for heading, part in [*meant.items(), ("", order[-1])]:
        while missing and part and order.index(missing[0]) <= order.index(part):
            blocks += [f"## {missing[0]}", parts[missing.pop(0)]]
        if heading:
            blocks += [f"## {heading}", parts[part] if part else "Nothing was recorded under this heading."]
    return Entry(account.iteration_id, f"9_reports/{account.date}_{account.slug}.md", _blocks(*blocks) + "\n", "file")


def _report_parts(account: Account) -> dict[str, str]:
    hypothesis, design, docs = account.hypothesis, account.design, account.docs
    arms = [("baseline", arm) for arm in design.baselines] + [("variant", arm) for arm in design.variants]
    settings = [f"- {role} `{arm.name}`: {json.dumps(arm.config_overrides, sort_keys=True)}" for role, arm in arms]
    limits = [f"- {_line(bound)}" for bound in hypothesis.risk_bounds] or ["- no risk bound was set"]
    if account.self_reported:
        limits.append("- the numbers are self-reported: no frozen evaluator measured them")
    if account.manifest and account.manifest.containment:
        limits.append(f"- containment of the trials: {account.manifest.containment}")
    wanted = f"Success, set before the run: {_line(hypothesis.success)}"
    return {
        "Question": _blocks(_prose(hypothesis.mechanism), wanted),
        "Method": _blocks(_prose(design.description), "\n".join(settings)),
        "Results": _blocks(_key_metrics(account), _arm_table(account)),
        "Observation": _blocks(_measurements(account), _prose(docs.observation)),
        "Inference": _prose(docs.inference) or "None was drawn.",
        "Claim": _blocks(verdict_sentence(account), _prose(docs.claim)),
        "Limits": "\n".join(limits),
        "Evidence": _evidence(account),
        "Next": _line(account.decision or f"Recommendation: {account.results.recommendation.value}."),
    }


def tsv_rows(manifest: Manifest, metrics: RunMetrics | None, metric: str, description: str) -> Entry:
    """results.tsv: one row an arm of a run.

    `value` is the arm's mean of `metric`, `ci_low` and `ci_high` its 95 % Student t interval (blank below
    two trials); `verdict` is the variant's comparison; `memory_gb` the largest trial, `seconds` the mean.
    """
    verdicts = {comparison.arm: comparison.verdict.value for comparison in manifest.comparisons}
    mark = " (self-reported)" if manifest.self_reported else ""
    rows = []
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = [trial for trial in manifest.trials if trial.arm == arm]
        found = metrics.arms.get(arm, {}).get(metric) if metrics else None
        measured = _interval_cells(found) if found else {"n": "0"}
        cells = (
            measured
            | _cost_cells(trials)
            | {
                "commit": trials[0].commit[:12],
                "iteration": manifest.iteration_id,
                "run": manifest.run_id,
                "arm": arm,
                "metric": metric,
                "verdict": verdicts.get(arm, ""),
                "status": manifest.status or "",
                "description": _line(description)[:200] + mark,
            }
        )
        rows.append("\t".join(_line(cells.get(column, "")) for column in COLUMNS))
    return Entry(f"{manifest.iteration_id}.{manifest.run_id}", TABLE, "\n".join(rows), "row")


def _interval_cells(found: ArmMetrics) -> dict[str, str]:
    cells = {"n": str(found.n), "value": f"{found.mean:.6g}"}
    if found.std is None or found.n < 2:
        return cells
    from scipy.special import stdtrit

    half = float(stdtrit(found.n - 1, 0.975)) * found.std / math.sqrt(found.n)
    return cells | {"ci_low": f"{found.mean - half:.6g}", "ci_high": f"{found.mean + half:.6g}"}


def _cost_cells(trials: Sequence[Trial]) -> dict[str, str]:
    ran = [trial for trial in trials if trial.outcome is not Outcome.CANCELLED] or trials
    seconds = sum(trial.seconds for trial in ran) / len(ran)
    return {"memory_gb": f"{max(trial.max_rss_bytes for trial in ran) / 1e9:.3f}", "seconds": f"{seconds:.2f}"}


def paper_entries(account: Account, targets: Collection[str]) -> list[Entry]:
    """A section for each paper target that the researcher gave text for; RecordError on any other path."""
    entries = []
    for number, update in enumerate(account.docs.paper):
        if update.path not in targets:
            raise RecordError(f"{update.path}: not a paper target; known: {', '.join(targets) or 'none'}")
        name = account.iteration_id if number == 0 else f"{account.iteration_id}.{number}"
        marks = [account.outcome, *(["self-reported numbers"] if account.self_reported else [])]
        note = f"*{account.date}, experiment {account.results.experiment_id}: {', '.join(marks)}.*"
        entries.append(Entry(name, update.path, _blocks(update.text.strip(), note), "section"))
    return entries


def docs_update(account: Account, entries: Iterable[Entry]) -> Entry:
    """experiments/<ID>/docs_update.md: which documents take an entry, and why the paper needs none, if so."""
    rows = ["| file | place | entry |", "| --- | --- | --- |"]
    rows += [f"| {entry.path} | {entry.place} | {entry.id} |" for entry in entries]
    targets = "\n".join(f"- {update.path}" for update in account.docs.paper)
    rationale = f"No changes needed: {_prose(account.docs.no_changes or 'no reason was given')}"
    text = _blocks("# Documents of this iteration", "\n".join(rows), "## Paper targets", targets or rationale) + "\n"
    return Entry(account.iteration_id, f"experiments/{account.iteration_id}/docs_update.md", text, "file")


def _provenance(account: Account) -> str:
    commit = account.manifest.git.candidate_commit if account.manifest else None
    candidate = f", candidate `{commit[:12]}`" if commit else ""
    return f"Iteration `{account.iteration_id}`, run `{account.results.run_id}`{candidate}."


def _status(account: Account) -> str:
    results = account.results
    return f"Status: {results.status.upper()} | Recommendation: {results.recommendation.value.upper()}"


def _measurements(account: Account) -> str:
    lines = []
    for comparison in account.comparisons:
        gain = comparison.difference
        values = [_mean(account, arm, comparison.metric) for arm in (comparison.arm, comparison.baseline)]
        lines.append(
            f"- `{comparison.arm}` against `{comparison.baseline}`, {comparison.metric}: "
            f"{_number(abs(gain.mean))} {'better' if gain.mean >= 0 else 'worse'}"
            f"{f' ({values[0]} against {values[1]})' if all(values) else ''}; "
            f"gain {_interval(gain)}, n = {gain.n} pairs: {comparison.verdict.value}{_reason(comparison.reason)}."
        )
    return "\n".join(lines) or "- no comparison was measured"


def _key_metrics(account: Account) -> str:
    mark = " (self-reported)" if account.self_reported else ""
    head = [f"| Metric{mark} | Value | Threshold | Result |", "|--------|-------|-----------|--------|"]
    rows = [
        f"| {one.metric}, gain of {one.arm} | {_number(one.difference.mean)} {_interval(one.difference)} "
        f"| gain >= {account.design.metrics.success_delta:g} | {one.verdict.value} |"
        for one in account.comparisons
    ]
    for criterion in account.design.criteria:
        how = account.results.assessment.criteria.get(criterion.metric, "unmeasured")
        value = account.results.metrics.get(criterion.metric)
        bounds = [f"target {criterion.target:g}"]
        bounds += [f"acceptable {criterion.acceptable:g}"] if criterion.acceptable is not None else []
        bounds += [f"failure {criterion.failure:g}"] if criterion.failure is not None else []
        shown = "" if value is None else _number(value)
        rows.append(f"| {criterion.metric} | {shown} | {', '.join(bounds)} | {how} |")
    return "\n".join(head + rows) if rows else "No metric was measured."


def _arm_table(account: Account) -> str:
    if account.metrics is None or not account.metrics.arms:
        return ""
    arms = account.metrics.arms
    names = list(dict.fromkeys(metric for values in arms.values() for metric in values))
    rows = ["| arm | n | " + " | ".join(names) + " |", "| --- | --- |" + " --- |" * len(names)]
    for arm, values in arms.items():
        n = max((value.n for value in values.values()), default=0)
        rows.append(f"| {arm} | {n} | " + " | ".join(_mean(account, arm, name) for name in names) + " |")
    return _blocks("\n".join(rows), "Means over the trials; ± is the sample deviation.")


def _mean(account: Account, arm: str, metric: str) -> str:
    found = account.metrics.arms.get(arm, {}).get(metric) if account.metrics else None
    if found is None:
        return ""
    return _number(found.mean) if found.std is None else f"{_number(found.mean)} ± {found.std:.2g}"


def _interval(gain: Interval) -> str:
    if gain.low is None or gain.high is None:
        return "(no interval)"
    return f"[{_number(gain.low)}, {_number(gain.high)}] at {100 * gain.level:g} %"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _evidence(account: Account) -> str:
    folder = f"experiments/{account.iteration_id}"
    run = f"{folder}/runs/{account.results.run_id}"
    lines = [f"- every trial, seed, commit and hash: {run}/run_manifest.json", f"- aggregates: {run}/metrics.json"]
    lines += [f"- tables and figures: {folder}/analysis/"]
    return "\n".join(lines + [f"- {_line(path)}" for path in account.results.artifacts])


def _reason(reason: str) -> str:
    return f" ({_line(reason)})" if reason else ""


def _line(text: str) -> str:
    """One line: no tab or line break, nothing that is not printable."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _prose(text: str) -> str:
    """A researcher's words, at most WORDS characters, unable to pass for a heading of the document."""
    text = text.strip().replace("\r\n", "\n")
    text = text if len(text) <= WORDS else text[:WORDS] + " [cut]"
    return re.sub(r"(?m)^(\s{0,3})(#{1,6}\s|={3,}\s*$|-{3,}\s*$)", r"\1\\\2", text)


def _blocks(*parts: str) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())
