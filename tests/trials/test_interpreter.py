"""The trials' interpreter: what it has, what is bound for it, and whose code an editable install imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from editable_kit import WAYS, clear, finder, link, make_venv, newer, package, path_line

from autolab.errors import LabError
from autolab.trials import interpreter

pytestmark = pytest.mark.process

PYTHON = Path(sys.executable)

# what it has


def test_the_environment_names_version_and_packages_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = interpreter.packages_hash(PYTHON)
    assert first.version == ".".join(map(str, sys.version_info[:3]))
    assert len(first.packages_sha256) == 64
    monkeypatch.setattr(interpreter, "_request_answer", lambda python: pytest.fail("asked again"))
    assert interpreter.packages_hash(PYTHON) == first


def fake_python(folder: Path, found: list[str]) -> Path:
    """An interpreter with the given packages, whose site-packages is `folder`/site."""
    (folder / "site").mkdir(exist_ok=True)
    nothing: dict[str, list[str]] = {name: [] for name in ("prefixes", "own", "path", "finders", "links")}
    answer = json.dumps({"version": "3.12.0", "site": str(folder / "site"), "found": found} | nothing)
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def test_installing_a_package_changes_the_hash(tmp_path: Path) -> None:
    python = fake_python(tmp_path, ["numpy==2.0"])
    before = interpreter.packages_hash(python)
    fake_python(tmp_path, ["numpy==2.1"])
    assert interpreter.packages_hash(python) == before
    os.utime(tmp_path / "site", ns=(1, 1))
    assert interpreter.packages_hash(python).packages_sha256 != before.packages_sha256


def test_packaged_copies_of_the_evaluation_data_are_named(tmp_path: Path) -> None:
    assert interpreter.holds_packaged_data(fake_python(tmp_path, ["numpy==2.0", "scikit_learn==1.5"])) == [
        "scikit-learn"
    ]
    other = tmp_path / "other"
    other.mkdir()
    assert interpreter.holds_packaged_data(fake_python(other, ["numpy==2.0"])) == []


def test_an_interpreter_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not start"):
        interpreter.packages_hash(tmp_path / "none")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 4\n")
    broken.chmod(0o755)
    with pytest.raises(LabError, match="no such luck"):
        interpreter.packages_hash(broken)


# what is bound for it


class Ground:
    """A lab's checkout with an environment inside, and an export of a candidate in its record."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "lab"
        self.root.mkdir()
        self.site = make_venv(self.root / "venv")
        self.python = self.root / "venv" / "bin" / "python"
        self.export = self.root / ".git" / "autolab" / "exports" / "code-1"
        package(self.root, 1)
        package(self.export, 2)

    def places(self) -> interpreter.Places:
        newer(self.site)
        return interpreter.places(self.python, self.root)

    def imported(self, code: str = "import slope; print(slope.WIDTH, slope.__file__)", **env: str) -> str:
        """What a program of a trial prints, whose imports are sent to the export; the checkout is in reach."""
        folder = self.export.parent / "imports"
        folder.mkdir(exist_ok=True)
        text = self.places().redirection.text(interpreter.spellings(self.root), self.export)
        (folder / "sitecustomize.py").write_text(text)
        path = ":".join([str(folder), *env.values()])
        done = subprocess.run(
            [str(self.python), "-B", "-c", code], env={"PYTHONPATH": path}, cwd="/", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("interpreter"))


@pytest.fixture
def ground(made: Ground) -> Iterator[Ground]:
    yield made
    clear(made.site)


def test_an_environment_in_the_lab_is_bound_by_itself_and_nothing_else_of_the_lab(ground: Ground) -> None:
    path_line(ground.site, ground.root)
    found = ground.places()
    assert str(ground.root / "venv") in found.reads
    inside = [path for path in found.reads if Path(path).is_relative_to(ground.root)]
    assert inside == [str(ground.root / "venv")]
    assert found.redirection.paths == ("src",)


def test_a_lab_that_is_its_own_environment_has_only_its_python_bound(tmp_path: Path) -> None:
    site = make_venv(tmp_path / "lab")
    (tmp_path / "lab" / "data").mkdir()
    found = interpreter.places(tmp_path / "lab" / "bin" / "python", tmp_path / "lab")
    inside = {path for path in found.reads if Path(path).is_relative_to(tmp_path / "lab")}
    assert inside == {str(tmp_path / "lab" / "bin"), str(tmp_path / "lab" / "pyvenv.cfg"), str(site.parent)}
    done = [str(tmp_path / "lab" / "bin" / "python"), "-c", "import sys; print(sys.prefix)"]
    assert subprocess.run(done, capture_output=True, text=True, check=True).stdout.strip() == str(tmp_path / "lab")


@pytest.mark.parametrize("way", WAYS)
def test_another_project_that_is_installed_editable_is_bound_as_it_is(ground: Ground, tmp_path: Path, way: str) -> None:
    package(tmp_path, 3)
    WAYS[way](ground.site, tmp_path)
    found = ground.places()
    assert not found.redirection
    assert any((tmp_path / "src" / "slope").is_relative_to(path) for path in found.reads)


def test_a_path_above_the_lab_is_refused_in_a_line_that_says_where_it_stands(ground: Ground) -> None:
    (ground.site / "all.pth").write_text(f"{ground.root.parent}\n")
    with pytest.raises(LabError, match=r"is on its sys.path, and the lab lies in it.*\.pth file in .*site-packages"):
        ground.places()


def test_every_autolab_that_is_installed_has_its_labs_covered(ground: Ground) -> None:
    package_ = ground.site / "autolab"
    (package_ / "templates").mkdir(parents=True)
    (package_ / "errors.py").touch()
    found = ground.places()
    assert found.covers == (str(package_ / "templates"),)
    shutil.rmtree(package_)
    own = Path(interpreter.__file__).parents[1] / "templates"
    assert str(own) in interpreter.places(PYTHON, ground.root).covers


# whose code is imported


@pytest.mark.parametrize("way", WAYS)
def test_an_editable_install_of_the_lab_imports_the_candidates_code(ground: Ground, way: str) -> None:
    WAYS[way](ground.site, ground.root)
    found = ground.places()
    assert found.redirection
    assert not any((ground.root / "src").is_relative_to(path) for path in found.reads)
    assert ground.imported() == f"2 {ground.export}/src/slope/__init__.py"


def test_a_finder_whose_folder_has_another_name_imports_the_candidates(ground: Ground) -> None:
    for root, width in ((ground.root, 5), (ground.export, 6)):
        (root / "inner").mkdir()
        (root / "inner" / "__init__.py").write_text(f"WIDTH = {width}\n")
    finder(ground.site, ground.root)
    path = ground.site / "__editable___slope_0_1_finder.py"
    path.write_text(path.read_text().replace("src/slope", "inner"))
    assert ground.imported() == f"6 {ground.export}/inner/__init__.py"


def test_a_module_that_the_candidate_has_taken_away_is_not_found_in_the_checkout(ground: Ground) -> None:
    (ground.root / "src" / "slope" / "old.py").touch()
    path_line(ground.site, ground.root)
    code = "import importlib.util; print(importlib.util.find_spec('slope.old'))"
    assert ground.imported(code) == "None"


def test_a_checkout_behind_a_link_is_still_the_checkout(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(ground.root)
    path_line(ground.site, tmp_path / "home")
    (ground.site / "b.pth").write_text(f"{ground.root}/src\n")
    found = interpreter.places(ground.python, tmp_path / "home")
    assert found.redirection.paths == ("src",)
    assert ground.imported().startswith("2 ")


def test_modules_of_the_environment_and_of_the_standard_library_go_before_the_labs(ground: Ground) -> None:
    (ground.export / "src" / "colorsys.py").write_text("raise SystemError('not the standard library')\n")
    path_line(ground.site, ground.root)
    assert ground.imported("import colorsys; print(colorsys.__file__)").endswith("colorsys.py")


def test_a_path_of_the_users_into_the_checkout_is_sent_to_the_export(ground: Ground) -> None:
    assert ground.imported(user=f"{ground.root}/src").startswith("2 ")


def test_the_environments_own_sitecustomize_runs_too(ground: Ground) -> None:
    (ground.site / "sitecustomize.py").write_text("import builtins; builtins.seen = 'yes'\n")
    path_line(ground.site, ground.root)
    told = "import builtins, sitecustomize; print(getattr(builtins, 'seen', 'no'), sitecustomize.__file__)"
    # A system's Python may have one that comes before the environment's: then that one runs, with and without ours.
    plain = subprocess.run(
        [str(ground.python), "-B", "-c", told], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert ground.imported(f"import slope; print(slope.WIDTH, end=' '); {told}") == f"2 {plain}"


def test_a_link_into_the_lab_is_no_way_around(ground: Ground) -> None:
    link(ground.site, ground.root)
    assert ground.imported().startswith("2 ")
    assert not any(path.startswith(f"{ground.root}/src") for path in ground.places().reads)


def test_the_file_by_which_the_package_is_known_is_there() -> None:
    assert (Path(interpreter.__file__).parents[1] / interpreter.MARK).is_file()
