"""The set-up, run as a newcomer would, in scratch projects whose lock is empty: no network is needed."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.settings import PROJECT_DIRECTORY

# Builds the scratch project with the standard library alone, so that nothing has to be downloaded.
BUILD_BACKEND = """
import zipfile
from pathlib import Path

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "scratch-1.0-py3-none-any.whl"
    information = "scratch-1.0.dist-info"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("scratch.pth", str(Path.cwd()))
        wheel.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\\nName: scratch\\nVersion: 1.0\\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{information}/RECORD", "")
    return name
"""


def scratch_project(place: Path) -> Path:
    shutil.copytree(
        PROJECT_DIRECTORY / ".ci", place / ".ci", ignore=shutil.ignore_patterns("__pycache__")
    )
    (place / "requirements.txt").write_text("")
    (place / "backend.py").write_text(BUILD_BACKEND)
    (place / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "scratch"\nversion = "1.0"\n'
    )
    return place


def without_network(**variables: str) -> dict[str, str]:
    return {**os.environ, "PIP_NO_INDEX": "1", **variables}


def start_set_up(project: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, project / ".ci" / "bootstrap.py", "venv"],
        env=without_network(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def set_up(project: Path, **variables: str) -> tuple[int, str]:
    process = start_set_up(project, **variables)
    output, _ = process.communicate()
    return process.returncode, output


@pytest.fixture(scope="module")
def twice_at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A scratch project in a path with a space, set up by two processes at the same time; and what they said."""
    project = scratch_project(tmp_path_factory.mktemp("set-up") / "with a space")
    both = [start_set_up(project), start_set_up(project)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    return project, outputs


def test_two_at_once_set_up_once(twice_at_once: tuple[Path, list[str]]) -> None:
    _, outputs = twice_at_once
    assert sorted("virtual environment" in output for output in outputs) == [False, True]


def test_pip_takes_over_where_uv_cannot_be_had(twice_at_once: tuple[Path, list[str]]) -> None:
    project, outputs = twice_at_once
    assert "uv cannot be had here: going on with pip" in "".join(outputs)
    subprocess.run([project / ".venv/bin/python", "-c", "import backend"], cwd="/", check=True)


def test_set_up_is_skipped_when_nothing_changed_and_done_again_when_the_lock_did(
    twice_at_once: tuple[Path, list[str]],
) -> None:
    project, _ = twice_at_once
    assert set_up(project) == (0, "")
    (project / "requirements.txt").write_text("# changed\n")
    status, output = set_up(project)
    assert status == 0
    assert "0 packages, with pip" in output
    assert "virtual environment" not in output
    assert set_up(project) == (0, "")


@pytest.mark.long
def test_an_environment_that_moved_is_made_anew(
    twice_at_once: tuple[Path, list[str]], tmp_path: Path
) -> None:
    project, _ = twice_at_once
    moved = tmp_path / "moved"
    shutil.copytree(project, moved, symlinks=True)
    status, output = set_up(moved)
    assert status == 0
    assert "virtual environment" in output


def test_a_lock_that_cannot_be_installed_ends_with_status_3_and_what_to_do(
    twice_at_once: tuple[Path, list[str]],
) -> None:
    project, _ = twice_at_once
    lock = project / "requirements.txt"
    before = lock.read_text()
    lock.write_text(f"absent-package==1.0 --hash=sha256:{'0' * 64}\n")
    status, output = set_up(project)
    lock.write_text(before)
    assert status == 3
    assert "absent-package" in output
    assert "PIP_FIND_LINKS" in output


def test_a_missing_ensurepip_is_answered_with_one_command(tmp_path: Path) -> None:
    project = scratch_project(tmp_path / "project")
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n")
    status, output = set_up(project, PYTHONPATH=str(tmp_path))
    assert status == 3
    assert "ensurepip" in output
    commands = [line for line in output.splitlines() if line.startswith("    ")]
    assert len(commands) == 1
    assert not (project / ".venv").exists()


def test_pips_configuration_reaches_uv(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://index.example/simple\nextra-index-url =\n    https://one.example/simple\n"
        "    https://two.example/simple\ntrusted-host = one.example\n[install]\nfind-links = /wheels /more\n"
    )
    question = (
        "import json, sys; from environments import *; from dataclasses import replace; from pathlib import Path\n"
        "print(json.dumps(uv_variables_from_pip(replace(PROJECT, directory=Path(sys.prefix)))))"
    )
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))
    }
    answer = subprocess.run(
        [sys.executable, "-c", question],
        cwd=PROJECT_DIRECTORY / ".ci",
        env={
            **kept,
            "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
            "UV_INSECURE_HOST": "uv.example",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    variables = json.loads(answer.stdout)
    assert variables["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert (
        variables["UV_EXTRA_INDEX_URL"] == "https://one.example/simple https://two.example/simple"
    )
    assert variables["UV_FIND_LINKS"] == "/wheels,/more"
    assert variables["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert "UV_INSECURE_HOST" not in variables


def test_an_old_python_can_read_the_bootstrap_up_to_the_check_of_its_version() -> None:
    ast.parse((PROJECT_DIRECTORY / ".ci" / "bootstrap.py").read_text(), feature_version=(3, 7))


def test_every_verb_of_the_makefile_is_the_bootstraps(tmp_path: Path) -> None:
    makefile = (PROJECT_DIRECTORY / "Makefile").read_text()
    verbs = makefile.split(".PHONY:")[1].splitlines()[0].split()
    answer = subprocess.run(
        [sys.executable, PROJECT_DIRECTORY / ".ci" / "bootstrap.py", "help"],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0
    for verb in set(verbs) - {"help"}:
        assert f"bootstrap.py {verb} " in answer.stdout


def test_a_wrong_verb_is_wrong_use() -> None:
    command = [sys.executable, PROJECT_DIRECTORY / ".ci" / "bootstrap.py", "dmeo"]
    assert subprocess.run(command, capture_output=True).returncode == 2
