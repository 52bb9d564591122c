"""The locks: complete, hashed, and the same everywhere."""

from __future__ import annotations

import re

import pytest

from runbook_lib.settings import PROJECT_DIRECTORY

LOCKS = ("requirements", "benchmarks/requirements")


def names(text: str) -> set[str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_everything_that_was_asked_for(lock: str) -> None:
    asked = names((PROJECT_DIRECTORY / f"{lock}.in").read_text())
    assert asked <= names((PROJECT_DIRECTORY / f"{lock}.txt").read_text())


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_pinned_and_hashed(lock: str) -> None:
    text = (PROJECT_DIRECTORY / f"{lock}.txt").read_text()
    packages = [
        entry for entry in re.split(r"\n(?=[A-Za-z0-9])", text) if not entry.startswith("#")
    ]
    assert packages
    for package in packages:
        assert re.match(r"[\w.-]+==\S+", package)
        assert "--hash=sha256:" in package


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_host_or_folder(lock: str) -> None:
    text = (PROJECT_DIRECTORY / f"{lock}.txt").read_text()
    assert "://" not in text
    assert "--find-links" not in text
    assert not re.search(r"(?<!\S)/\w", text)


def test_the_uv_that_sets_up_is_the_locked_one() -> None:
    first = (PROJECT_DIRECTORY / ".ci" / "requirements-uv.txt").read_text().partition("\n")[2]
    assert first in (PROJECT_DIRECTORY / "requirements.txt").read_text()
