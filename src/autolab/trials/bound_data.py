"""The training's data as trials get it: each entry of `data` is sealed, and seen where the program looks for it.

In a copy of the code, and in a trial's home, a link leads to it (`LINK`), or a folder of links (`TREE`) that the
program may add to. At an absolute place of another name only a mount can show it, which needs containment `full`.
Keys that lie beside cached data are covered, and no trial sees them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import LabError
from autolab.files import sha256_of
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.data_entry import DataEntry
from autolab.trials import fetched_data
from autolab.trials.exports import Exporter

LINK, TREE = "link", "tree"
"""How an entry gets to its place; words of `LINKING`."""
LINKING = """
make_folder() {
    case "$1" in . | .. | /) return 0 ;; esac
    make_folder "$(dirname "$1")"
    if [ -h "$1" ]; then
        target=$(readlink -f "$1")
        rm "$1"
        mkdir "$1"
        for each in "$target"/* "$target"/.[!.]*; do
            if [ -e "$each" ]; then ln -s "$each" "$1"; fi
        done
    elif [ ! -d "$1" ]; then
        rm -f "$1"
        mkdir "$1"
    fi
}
link_into() {
    if [ -d "$1" ] && [ -d "$2" ] && [ ! -h "$2" ]; then
        for each in "$1"/* "$1"/.[!.]*; do
            if [ -e "$each" ]; then link_into "$each" "$2/${each##*/}"; fi
        done
    else
        rm -rf "$2"
        ln -s "$1" "$2"
    fi
}
link() {
    cd "$2"
    if [ "$1" = tree ] && [ -d "$4" ]; then
        make_folder "$3"
        cp -Rsf "$4/." "$3"
        chmod -R u+w "$3" 2>/dev/null || true
        for folder in "$3" "$3/huggingface" "$3/.cache/huggingface"; do
            case "$folder" in */huggingface) ;; *) [ -d "$folder/hub" ] || [ -d "$folder/datasets" ] || continue ;; esac
            rm -f "$folder/token" "$folder/stored_tokens"
        done
    else
        make_folder "$(dirname "$3")"
        link_into "$4" "$3"
    fi
}
while [ "$links" -gt 0 ]; do
    (link "$1" "$2" "$3" "$4")
    shift 4
    links=$((links - 1))
done
"""
"""A piece of a shell script that makes `links` links, four words each: style, folder, place in that folder, source.

What a commit has beside the data stays. No link is followed to a place: a folder above that is one becomes a folder of
links, so that nothing is ever made or removed where the data lie. Keys of Hugging Face get no link."""
OFFLINE: Mapping[str, Mapping[str, str]] = {
    ".cache/huggingface": {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
}
"""Caches in the home, and the variables that keep their libraries from asking a server first."""
_KEYS = ("token", "stored_tokens")
_KEYS_AT_HOME = (
    *(".ssh", ".aws", ".gnupg", ".netrc", ".git-credentials", ".kaggle", ".docker", ".config", ".huggingface/token"),
    *(".cache/huggingface/token", ".cache/huggingface/stored_tokens"),
)
"""Files and folders of a user that hold keys."""
_LOOKED_AT = 2_000
"""Files of an entry of which links and modes are looked at before trials start."""


@dataclass(frozen=True)
class BoundData:
    """An entry, where it is read (the user's own, or an export of git's), its hash, and the keys in it to cover."""

    entry: DataEntry
    path: Path
    sha256: str
    covers: tuple[str, ...] = ()

    @property
    def mount(self) -> tuple[str, str] | None:
        """From where to where the sandbox has to show it; None if it is seen where it lies."""
        place = self.entry.place
        if not place.startswith("/") or _is_same(self.path, place):
            return None
        return str(self.path), place


def bind(exporter: Exporter, config: Config, commit: str) -> tuple[BoundData, ...]:
    """All data of the configuration, sealed. LabError: an entry is missing, or cannot be shown where it is wanted."""
    everything = []
    for entry in config.data_entries:
        covers = secrets_within(entry.source(exporter.root))
        if entry.lies_outside or entry.is_fetched:
            source = entry.source(exporter.root)
            _require(source, entry)
            without = frozenset(os.path.relpath(path, source) for path in covers)
            sha256 = exporter.seals.add_own(entry.path, source, without)
            if entry.is_fetched:
                fetched_data.require_unchanged(exporter.root, entry, sha256)
            bound = BoundData(entry, source, sha256, covers)
        else:
            folder = exporter.data(commit, entry.path, may_be_partial=True)
            bound = BoundData(entry, folder.path, folder.sha256, covers)
        _require_place(bound, config.containment)
        everything.append(bound)
    return tuple(everything)


def combined_sha256(everything: Sequence[BoundData]) -> str:
    """The hash of all data. One folder that is seen where it lies has its own, as it always had."""
    if len(everything) == 1 and everything[0].entry.is_plain:
        return everything[0].sha256
    parts = []
    for bound in everything:
        style = TREE if bound.entry.is_linked_tree else LINK
        parts.append(f"{style} {bound.entry.place} {bound.sha256}")
    return sha256_of("\n".join(parts))


def offline_variables(everything: Iterable[BoundData]) -> dict[str, str]:
    """The variables for the caches among the data."""
    variables: dict[str, str] = {}
    for cache, values in OFFLINE.items():
        if any(_is_cache(bound, cache) for bound in everything):
            variables |= values
    return variables


def _is_cache(bound: BoundData, cache: str) -> bool:
    if not bound.entry.in_home:
        return False
    place = bound.entry.place
    return f"{place}/".startswith(f"~/{cache}/") or (place in ("~", "~/.cache") and (bound.path / cache).is_dir())


def secrets_within(source: Path) -> tuple[str, ...]:
    """Files and folders with the user's keys that lie in `source`, absolute."""
    home = Path(os.path.expanduser("~"))
    candidates = [home / name for name in _KEYS_AT_HOME]
    for folder in (source, source / "huggingface", source / ".cache" / "huggingface"):
        # A folder of data may have a file called token: only beside these folders it is a key.
        if (folder / "hub").is_dir() or (folder / "datasets").is_dir() or folder.name == "huggingface":
            candidates += [folder / name for name in _KEYS]
    inside = [path for path in candidates if path != source and path.is_relative_to(source) and os.path.lexists(path)]
    return tuple(dict.fromkeys(map(str, inside)))


def problems(git: Git, root: Path, commit: str, config: Config) -> Iterator[str]:
    """Everything that keeps trials from their data, a line each, before anything is hashed or exported."""
    for entry in config.data_entries:
        if not entry.lies_outside and git.has_path(commit, entry.path):
            continue
        source = entry.source(root)
        try:
            _require(source, entry)
            _require_place(BoundData(entry, source, ""), config.containment)
        except LabError as error:
            yield str(error)
            continue
        yield from _unreadable(source, config)


def require_data(git: Git, root: Path, commit: str, config: Config) -> None:
    """LabError: everything that keeps trials from their data, in one line."""
    found = list(problems(git, root, commit, config))
    if found:
        more = "" if len(found) == 1 else f"{len(found)} problems with the data: "
        raise LabError(more + "; ".join(found))


def _require(source: Path, entry: DataEntry) -> None:
    where = f".autolab/config.yaml: data: {entry.path}"
    home = os.path.expanduser("~")
    if os.path.realpath(source) in ("/", os.path.realpath(home)) or Path(home).is_relative_to(source):
        raise LabError(f"{where} holds your home; name the folder that the program needs")
    if os.path.realpath(source) in key_paths():
        raise LabError(f"{where} holds keys of yours, which no trial may read; name another")
    if source.exists():
        return
    way_out = "put it there, or change the path"
    if entry.is_fetched:
        way_out = "fetch it on this machine: autolab fetch -- CMD"
    raise LabError(f"{where}: no such file or folder on this machine; {way_out}")


def key_paths() -> set[str]:
    """Files and folders of the user's that hold keys and nothing else, links followed."""
    home = os.path.expanduser("~")
    return {os.path.realpath(os.path.join(home, name)) for name in _KEYS_AT_HOME if name != ".config"}


def _require_place(bound: BoundData, containment: str) -> None:
    if bound.mount is None or containment == "full":
        return
    source, place = bound.mount
    raise LabError(
        f".autolab/config.yaml: data: {bound.entry.path} at {place}: containment {containment} shows data only where it"
        f" lies; make a link once: ln -s {source} {place}, or use containment: full"
    )


def _is_same(path: Path, place: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(place) and os.path.exists(place)


def _unreadable(source: Path, config: Config) -> Iterator[str]:
    """The first file that a trial may not read, and the first link that leads out, of the first files of `source`."""
    as_other_user = config.containment == "full" and os.geteuid() == 0
    real = Path(os.path.realpath(source))
    mode_is_told = link_is_told = False
    for path in _first_files(source):
        if not path.is_symlink():
            mode = path.stat().st_mode
            readable = bool(mode & stat.S_IROTH) if as_other_user else os.access(path, os.R_OK)
            if not readable and not mode_is_told:
                mode_is_told = True
                yield f"{path}: trials may not read it: chmod -R a+rX {source}"
        elif not link_is_told and not Path(os.path.realpath(path)).is_relative_to(real):
            link_is_told = True
            target = Path(os.path.realpath(path))
            yield f"{path}: a link to {target}, which trials do not see: add {target.parent} to data"


def _first_files(source: Path) -> Iterator[Path]:
    """`source`, and files and folders below it, not through links, without keys; the first ones."""
    covers = secrets_within(source)
    waiting = [source]
    for count, path in enumerate(waiting):
        if count >= _LOOKED_AT:
            return
        yield path
        if (path == source or not path.is_symlink()) and path.is_dir() and os.access(path, os.R_OK):
            waiting += [child for child in sorted(path.iterdir()) if str(child) not in covers]
