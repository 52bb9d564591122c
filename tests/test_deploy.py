"""What examples/deploy offers can be used as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runbook_lib.settings import PROJECT_DIRECTORY, Settings

DEPLOY = PROJECT_DIRECTORY / "examples" / "deploy"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units_without_a_word(tmp_path: Path) -> None:
    units = []
    for unit in sorted(DEPLOY.glob("*.service")):
        copy = tmp_path / unit.name.replace("@", "@1")
        # systemd looks whether the program is there, so the units' place becomes this clone's.
        programs = unit.read_text().replace("/opt/runbook/.venv/bin/python", "/usr/bin/env")
        programs = programs.replace("/opt/runbook/.venv/bin/runbook", "/usr/bin/env")
        copy.write_text(programs.replace("/opt/runbook", str(tmp_path)))
        units.append(copy)
    assert len(units) == 2
    answer = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
    )
    said = [
        line for line in answer.stderr.splitlines() if str(tmp_path) in line or "runbook" in line
    ]
    assert (answer.returncode, said) == (0, [])


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda unit: unit.name)
def test_a_unit_gives_more_time_to_stop_than_the_worker_takes(unit: Path) -> None:
    seconds = int(re.search(r"TimeoutStopSec=(\d+)", unit.read_text())[1])
    assert seconds > Settings(_env_file=None).runbook_stop_grace_seconds


def test_the_image_copies_only_what_is_there_and_never_runs_as_root() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    for name in copied:
        assert (PROJECT_DIRECTORY / name).exists(), name
    assert ".env" not in copied
    assert "." not in copied
    assert re.findall(r"^USER (\d+)", text, re.MULTILINE)[-1] != "0"


def test_the_example_of_the_environment_names_every_setting_with_its_default() -> None:
    lines = re.findall(
        r"^#([A-Z][A-Z0-9_]+)=(.*)$",
        (PROJECT_DIRECTORY / "examples" / "env.example").read_text(),
        re.MULTILINE,
    )
    shown = dict(lines)
    fields = Settings.model_fields
    assert set(shown) == {name.upper() for name in fields}
    for name, field in fields.items():
        if isinstance(field.default, int | float | str):
            assert (
                shown[name.upper()] == f"{field.default:g}"
                if isinstance(field.default, float)
                else str(field.default)
            )
