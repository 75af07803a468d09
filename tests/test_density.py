"""How dense the source may be: limits for what scripts/measure_density.py counts, and its counts on small files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import measure_density
from measure_density import Density

# Lower a limit when the source has become plainer; raise one only with the reason in the commit.
LIMITS = {
    "nodes_a_statement": 11.0,
    "conditionals_a_thousand": 30.0,
    "comprehensions_a_thousand": 35.0,
    "longest": 79,
}
COMMENTS = 2.5
"""Percent of the lines at least."""

SMALL = """
def first(values):
    # The caller has sorted them.
    smallest = values[0] if values else None

    return smallest, [value for value in values if value]
"""


@pytest.fixture(scope="module")
def source(repository: Path) -> Density:
    return measure_density.total(measure_density.of_tree(repository / "src" / "autolab"))


@pytest.mark.parametrize("name", LIMITS)
def test_the_source_is_no_denser_than_its_limit(source: Density, name: str) -> None:
    assert getattr(source, name) <= LIMITS[name]


def test_comments_stand_on_enough_lines(source: Density) -> None:
    assert source.comment_share >= COMMENTS


def test_counts_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "small.py"
    path.write_text(SMALL)
    density = measure_density.of_file(path)
    assert (density.statements, density.conditionals, density.comprehensions) == (3, 1, 1)
    assert (density.lines, density.comments, density.longest) == (4, 1, 5)
    assert density.nodes == 31


def test_the_templates_are_not_counted(tmp_path: Path) -> None:
    for folder in ("templates", "room"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file.py").write_text("x = 1\n")
    assert list(measure_density.of_tree(tmp_path)) == [Path("room/file.py")]
