"""What a program that failed will want next, as its sources say: so that one list holds all that is missing.

A run ends at the first thing that is missing. Downloads, a GPU and folders in the home are named in the code, and are
told in the same list. Pure, but for questions to the repository.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from autolab.adoption.probe_findings import ProbeFinding
from autolab.adoption.program_sources import SourceFile

_DOWNLOADS = re.compile(
    r"\bdownload\s*=\s*True\b|\burlretrieve\(|\brequests\.get\(|\bload_dataset\(|\bfrom_pretrained\(\s*[\"']"
    r"|\bhf_hub_download\(|\bsnapshot_download\("
)
_CUDA = re.compile(r"\.cuda\(\)|\.to\(\s*[\"']cuda[\"']|\bdevice\s*=\s*[\"']cuda\b|torch\.device\(\s*[\"']cuda\b")
_OTHER_DEVICE = re.compile(r"cuda\.is_available|--device|no[-_]cuda|autodetect_device")
_CACHE = re.compile(r"[\"']\.cache[\"'][\s\S]{0,200}?[\"']([\w.-]+)[\"']|[\"']~/\.cache/([\w.-]+)")
_NETWORK, _GPU = "has no network", "wants a GPU"
"""Words of the findings that a run itself gives of these."""


def later_needs(
    sources: Sequence[SourceFile], missing: Sequence[ProbeFinding], *, has_data: bool
) -> Iterator[ProbeFinding]:
    """What the code says that it wants and that is not among what a run was `missing`; nothing if nothing was.

    With `has_data` the user has named data, so that downloads are no guess worth telling.
    """
    if not missing:
        return
    said = " ".join(finding.problem for finding in missing)
    if _GPU not in said:
        yield from _gpu(sources)
    if _NETWORK not in said and not has_data:
        yield from _downloads(sources)
    yield from _caches(sources, said)


def _gpu(sources: Sequence[SourceFile]) -> Iterator[ProbeFinding]:
    if any(_OTHER_DEVICE.search(source.text) for source in sources):
        return
    for source in sources:
        call = _CUDA.search(source.text)
        if call:
            yield ProbeFinding(f"it will want a GPU ({source.path}: {call[0]})", "run it on a machine with one")
            return


def _downloads(sources: Sequence[SourceFile]) -> Iterator[ProbeFinding]:
    for source in sources:
        call = _DOWNLOADS.search(source.text)
        if call:
            words = " ".join(call[0].split()).rstrip("(\"' ")
            yield ProbeFinding(
                f"it will download what is not there ({source.path}: {words}), and a trial has no network",
                "fetch it once: autolab fetch -- CMD, or name the folder where it lies: --data PATH",
            )
            return


def _caches(sources: Sequence[SourceFile], said: str) -> Iterator[ProbeFinding]:
    names: dict[str, str] = {}
    for source in sources:
        for direct, below in _CACHE.findall(source.text):
            names.setdefault(direct or below, source.path)
    for name, path in names.items():
        folder = f"~/.cache/{name}"
        if name in said:
            continue
        way_out = "make what it holds once, with the repository's own programs: autolab fetch -- CMD"
        if os.path.isdir(os.path.expanduser(folder)):
            way_out = f"--data {folder}"
        yield ProbeFinding(f"it keeps files in {folder} ({path}), which a trial does not have", way_out)
