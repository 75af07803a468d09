"""A trial that would not import the candidate's code is refused at `init` and told by `doctor`, with the way out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from adoption_kit import TRAIN, adopted, commit, refused, repository
from editable_kit import FINDER, WAYS, WIDTH, make_venv, package
from lab_kit import LabKit

from autolab.lab.schemas.config import Config

pytestmark = pytest.mark.process
PROJECT = '[project]\nname = "slope"\nversion = "0.1"\n'
IGNORED = ".venv\nbuild\n"


def own_package(tmp_path: Path, files: dict[str, str] | None = None) -> tuple[LabKit, Path]:
    """A repository whose script imports its package below `src`, and the site-packages of its `.venv`."""
    train = f"import slope.width\n{TRAIN}"
    root = tmp_path / "mine"
    kit = repository(root, {"train.py": train, ".gitignore": IGNORED, "pyproject.toml": PROJECT, **(files or {})})
    package(root, 1.0)
    commit(kit, {})
    return kit, make_venv(root / ".venv")


def distribution(site: Path, name: str = "slope") -> None:
    """What makes an installed project known by its name."""
    folder = site / f"{name}-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")


def imports_line(kit: LabKit) -> list[str]:
    return [line for line in kit.autolab("doctor").out.splitlines() if "imports it" in line]


@pytest.mark.parametrize("way", WAYS)
def test_each_editable_form_leads_to_the_candidates_code(tmp_path: Path, way: str) -> None:
    kit, site = own_package(tmp_path)
    WAYS[way](site, kit.root)
    said = adopted(kit)
    assert "slope" not in said.replace(str(kit.root), "")
    assert imports_line(kit) == []


def test_a_table_that_names_a_folder_with_a_dash_leads_there_too(tmp_path: Path) -> None:
    """setuptools puts such names into the table of its finder."""
    kit, site = own_package(tmp_path)
    WAYS["finder"](site, kit.root)
    table = {"slope-stubs": f"{kit.root}/src/stubs", "slope": f"{kit.root}/src/slope"}
    (site / "__editable___slope_0_1_finder.py").write_text(FINDER.format(mapping=table))
    adopted(kit)
    assert imports_line(kit) == []


def test_a_monorepo_of_two_installed_packages_leads_to_the_candidates_code(tmp_path: Path) -> None:
    """One imports the other, and neither lies where its name says."""
    files = {
        "packages/a/slope/__init__.py": "from steep.far import near\n",
        "packages/a/slope/width.py": WIDTH.format(1.0),
        "packages/b/lib/far/near.py": "",
    }
    kit = repository(tmp_path / "mine", {"train.py": f"import slope.width\n{TRAIN}", ".gitignore": IGNORED, **files})
    site = make_venv(kit.root / ".venv")
    (site / "a.pth").write_text(f"{kit.root}/packages/a\n")
    WAYS["finder"](site, kit.root)
    table = {"steep": f"{kit.root}/packages/b/lib"}
    (site / "__editable___slope_0_1_finder.py").write_text(FINDER.format(mapping=table))
    adopted(kit)


def test_a_copy_is_refused_and_doctor_tells_of_one_that_came_later(tmp_path: Path) -> None:
    kit, site = own_package(tmp_path)
    package(tmp_path / "built", 1.0)
    (tmp_path / "built" / "src" / "slope").rename(site / "slope")
    line = refused(kit)
    assert f"slope: train.py imports it, and {kit.root}/.venv/bin/python finds a copy, {site}/slope" in line
    assert "pip uninstall slope" in line and "pip install -e ." in line
    (site / "slope").rename(tmp_path / "away")
    WAYS["path_line"](site, kit.root)
    adopted(kit)
    assert imports_line(kit) == []
    (tmp_path / "away").rename(site / "slope")
    (line,) = imports_line(kit)[:1]
    assert "finds a copy" in line


def test_an_older_copy_is_known_by_the_name_of_the_project(tmp_path: Path) -> None:
    kit, site = own_package(tmp_path)
    (site / "slope").mkdir()
    (site / "slope" / "__init__.py").write_text("# an older version\n")
    (site / "slope" / "width.py").write_text(WIDTH.format(2.0))
    # Somebody else's package of the same name would be theirs to keep.
    assert "finds a copy" not in adopted(kit)
    other, site = own_package(tmp_path / "other")
    (site / "slope").mkdir()
    (site / "slope" / "__init__.py").write_text("# an older version\n")
    distribution(site)
    assert "finds a copy" in refused(other)


def test_another_clone_that_is_installed_is_refused(tmp_path: Path) -> None:
    kit, site = own_package(tmp_path)
    other = tmp_path / "first-clone"
    kit.git("clone", "--quiet", str(kit.root), str(other))
    (site / "_slope.pth").write_text(f"{other}/src\n")
    assert f"finds a copy, {other}/src/slope/__init__.py" in refused(kit)


def test_a_tree_of_links_that_git_does_not_hold_is_refused(tmp_path: Path) -> None:
    """As `pip install -e . --config-settings editable_mode=strict` makes it."""
    kit, site = own_package(tmp_path)
    tree = kit.root / "build" / "__editable__.slope-0.1-py3-none-any"
    (tree / "slope").mkdir(parents=True)
    for name in ("__init__.py", "width.py"):
        (tree / "slope" / name).symlink_to(kit.root / "src" / "slope" / name)
    (site / "_slope.pth").write_text(f"{tree}\n")
    line = refused(kit)
    assert "which trials do not have" in line and "editable_mode=compat" in line


def test_a_flag_that_switches_the_redirection_off_is_refused(tmp_path: Path) -> None:
    kit, site = own_package(tmp_path)
    WAYS["path_line"](site, kit.root)
    line = refused(kit, "--train-command", "python -I train.py")
    assert f"finds {kit.root}/src/slope/__init__.py in your checkout" in line
    assert "take -I out of the train command" in line
    adopted(kit)
    config = kit.root / Config.FILE
    settings = yaml.safe_load(config.read_text())
    settings["train"]["command"] = "{python} -I train.py"
    config.write_text(yaml.safe_dump(settings))
    assert "take -I out of the train command" in imports_line(kit)[0]


def test_a_module_below_src_is_run_by_its_name(tmp_path: Path) -> None:
    kit, site = own_package(tmp_path, {"src/slope/train.py": f"from . import width\n{TRAIN}"})
    WAYS["finder"](site, kit.root)
    assert "src/slope/train.py prints it" in adopted(kit, "--train-command", "python -m slope.train")
    ended = kit.autolab("doctor")
    assert "imports it" not in ended.out


def test_a_script_that_finds_its_package_itself_and_lacks_another_is_adopted_with_notes(tmp_path: Path) -> None:
    train = f"import sys\nsys.path.insert(0, 'src')\nimport slope\nimport no_such_package\n{TRAIN}"
    kit, _ = own_package(tmp_path, {"train.py": train})
    said = adopted(kit)
    assert "note: train.py imports no_such_package, slope, which the trials' Python does not find" not in said
    assert "note: train.py imports no_such_package, which the trials' Python does not find" in said
    assert "note: slope: committed, but the trials' Python finds it only if train.py adds its folder" in said


def test_a_package_of_somebody_else_with_the_name_of_a_folder_is_no_copy(tmp_path: Path) -> None:
    """As `datasets`, beside a folder `datasets` of scripts."""
    files = {"train.py": f"import yaml\n{TRAIN}", "yaml/prepare.py": "1\n", "tools/yaml/__init__.py": "1\n"}
    adopted(repository(tmp_path / "mine", files), "--python", sys.executable)


def test_a_pythonpath_that_leads_into_the_repository_is_given_to_trials(tmp_path: Path) -> None:
    kit, _ = own_package(tmp_path)
    said = adopted(kit, PYTHONPATH=f"{kit.root}/src")
    assert "PYTHONPATH  (yours leads into the repository)" in said and "adds its folder" not in said
    assert Config.load(kit.root / Config.FILE).train.env == ("PYTHONPATH",)
