"""`.env` is rewritten in one step, and nothing else in it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook_lib.env_file import EnvFile, replaced
from runbook_lib.errors import ConfigurationError, CouldNotBeDone
from runbook_lib.settings import read_settings

FILE = """# our keys
export OPENAI_API_KEY='the first one'   # asked for by Ana

WORDPRESS_URL=https://site.example
#OPENAI_API_KEY=an-example
RUNBOOK_LANGUAGE="de"
OPENAI_API_KEY=the-second
"""


def test_every_line_of_the_name_changes_and_nothing_else() -> None:
    assert replaced(FILE, "OPENAI_API_KEY", "new") == FILE.replace(
        "'the first one'", "new"
    ).replace("the-second", "new")


def test_line_ends_and_a_missing_one_at_the_end_stay() -> None:
    assert replaced("A=1\r\nB=2", "A", "9") == "A=9\r\nB=2"
    assert replaced("A=1\nB=2", "B", "9") == "A=1\nB=9"
    assert replaced("A=1", "C", "9") == "A=1\nC=9\n"


@pytest.mark.parametrize(
    "value",
    [
        "sk-proj-abc_DEF-123",
        "abcd efgh ijkl mnop qrst uvwx",
        "postgresql://bot:a%2Fb%40'x@db.example:5432/app?sslmode=require#",
        r"a\b'c\"d$HOME # no comment",
    ],
)
def test_a_value_is_read_as_it_was_written(tmp_path: Path, value: str) -> None:
    file = EnvFile(tmp_path / ".env")
    file.path.write_text(FILE)
    file.path.chmod(0o640)
    inode = file.path.stat().st_ino
    file.replace("OPENAI_API_KEY", value)
    assert file.value("OPENAI_API_KEY") == value
    assert file.value("RUNBOOK_LANGUAGE") == "de"
    assert file.path.stat().st_mode & 0o777 == 0o640
    assert file.path.stat().st_ino != inode
    assert [each.name for each in tmp_path.iterdir()] == [".env"]


def test_settings_read_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    file = EnvFile(tmp_path / ".env")
    file.replace("OPENAI_API_KEY", "sk-a-new-one")
    found = read_settings(file.path).openai_api_key
    assert found is not None
    assert found.get_secret_value() == "sk-a-new-one"
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_what_the_file_would_not_give_back_is_refused_and_nothing_is_changed(
    tmp_path: Path,
) -> None:
    file = EnvFile(tmp_path / ".env")
    file.path.write_text("HOME_OF=x\nA=1\n")
    with pytest.raises(CouldNotBeDone, match="would not give the value back") as refused:
        file.replace("A", "secret-${HOME_OF}")
    assert "secret-" not in str(refused.value)
    assert file.path.read_text() == "HOME_OF=x\nA=1\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real" / "env"
    real.parent.mkdir()
    real.write_text("A=1\n")
    link = tmp_path / ".env"
    link.symlink_to(real)
    EnvFile(link).replace("A", "2")
    assert link.is_symlink()
    assert real.read_text() == "A=2\n"


def test_a_line_that_is_no_assignment_is_told_by_its_number_and_shows_no_value(
    tmp_path: Path,
) -> None:
    file = tmp_path / ".env"
    file.write_text("# ours\nexport RUNBOOK_ACTOR=ana\nOPENAI_API_KEY sk-something-secret\n")
    with pytest.raises(ConfigurationError) as told:
        read_settings(file)
    assert "Line 3" in str(told.value)
    assert "OPENAI_API_KEY" in str(told.value)
    assert "something" not in str(told.value)
    file.write_text("sk-something-secret\n'open\n")
    with pytest.raises(ConfigurationError, match=r"Line [12]") as told:
        read_settings(file)
    assert "sk-" not in str(told.value)
    read_settings(tmp_path / "not there")
