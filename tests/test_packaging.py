"""What an installation holds is what the folders hold, and what the README says is what CI runs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_modules_is_a_listed_package():
    folders = PROJECT["tool"]["setuptools"]["package-dir"]
    found = {name + "".join(f".{part}" for part in path.parent.relative_to(ROOT / folder).parts)
             for name, folder in folders.items() for path in (ROOT / folder).rglob("*.py")}
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_files_beside_modules_are_package_data():
    folders = PROJECT["tool"]["setuptools"]["package-dir"]
    shipped = {path for name, patterns in PROJECT["tool"]["setuptools"]["package-data"].items()
               for pattern in patterns for path in (ROOT / folders[name]).glob(pattern)}
    there = {path for folder in folders.values() for path in (ROOT / folder).rglob("*")
             if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert shipped == there != set()


@pytest.mark.parametrize("folder, forbidden", [("hw", "torch"), ("sw", "amaranth")])
def test_stages_keep_apart(folder, forbidden):
    importing = [path.name for path in (ROOT / folder).rglob("*.py")
                 if re.search(rf"^\s*(import|from) {forbidden}\b", path.read_text(), re.MULTILINE)]
    assert importing == []


def test_every_dependency_has_a_reason():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start, end = lines.index("dependencies = ["), lines.index("[project.optional-dependencies]")
    explained = False
    for line in lines[start + 1: end]:
        if line.strip().startswith('"'):
            assert explained, line
        explained = line.strip().startswith("#") or (explained and line.strip().startswith('"'))


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci/run").read_text()
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme and "make test" in readme


def test_readme_commands_exist():
    """Each `make` target and each verb that the README names."""
    text = "\n".join(re.findall(r"^```(?:sh|console)?\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S))
    targets = set(re.findall(r"^\s*make (\w+)", text, re.M))
    known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert targets and targets <= known
    names = set(re.findall(r"NAME=(\w+)", text))
    assert names <= {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    helped = subprocess.run([sys.executable, "-m", "spikeloom.cli", "--help"], capture_output=True, text=True,
                            check=True)
    verbs = set(re.findall(r"^\s*spikeloom (\w+)", text, re.M))
    assert verbs and all(re.search(rf"^\s+{verb}\b", helped.stdout, re.M) for verb in verbs)
