"""The seeds of trials and of the researcher: made from the lab's secret, so that nobody else can foretell them. Pure.

The words below are parts of what is hashed: a lab in which one of them changes draws other seeds.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence

SEARCH, CONFIRM, CLAIM = "search", "confirm", "claim"
"""Say in the hashed message what the seeds are for."""
RESEARCHER = b"researcher"
"""The hashed message of the researcher's seed."""


def search_seeds(secret: bytes, protocol: str, base_tree: str, count: int) -> tuple[int, ...]:
    """The first `count` seeds of a base: the same for every candidate on it, so that baseline trials run once.

    A screen takes those of the champion's tree, whatever its ideas branch from: a step of one batch is the baseline
    of the next, measured already.
    """
    return _seeds(secret, (SEARCH, protocol, base_tree), count)


def confirmation_seeds(secret: bytes, candidate_tree: str, count: int) -> tuple[int, ...]:
    """Seeds that no search has used: the candidate's own, so that submitting it again draws no new luck."""
    return _seeds(secret, (candidate_tree, CONFIRM), count)


def claim_seeds(secret: bytes, protocol: str, champion_tree: str, working_tree: str, count: int) -> tuple[int, ...]:
    """The seeds of a claim: the same two trees again continue the pairs that were measured, and draw no new luck."""
    return _seeds(secret, (CLAIM, protocol, champion_tree, working_tree), count)


def researcher_seed(secret: bytes) -> int:
    """The seed of a researcher's own choices, in [0, 2**64)."""
    return int.from_bytes(hmac.digest(secret, RESEARCHER, "sha256")[:8], "big")


def _seeds(secret: bytes, about: Sequence[str], count: int) -> tuple[int, ...]:
    """Distinct integers in [0, 2**31); a longer list begins with the shorter one."""
    seeds: dict[int, None] = {}
    k = 0
    while len(seeds) < count:
        message = json.dumps([*about, k]).encode()
        digest = hmac.digest(secret, message, "sha256")
        # 31 bits: some libraries read a seed as a signed number of 32. A dict keeps the order and drops a repetition.
        seeds[int.from_bytes(digest[:4], "big") >> 1] = None
        k += 1
    return tuple(seeds)
