"""The team's policy file: its defaults, its example, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook_lib.errors import ConfigurationError
from runbook_lib.policy import Policy, load_policy, read_policy
from runbook_lib.settings import PROJECT_DIRECTORY, Settings


def test_the_example_shows_every_default() -> None:
    example = PROJECT_DIRECTORY / "examples" / "policy.toml"
    assert read_policy(example) == Policy()
    text = example.read_text("utf-8")
    for section in (Policy.model_fields, *(type(getattr(Policy(), each)).model_fields for each in ("thresholds", "detection", "quiet_hours", "alerting"))):  # fmt: skip
        assert not [name for name in section if name not in text]


def test_without_a_file_the_written_runbooks_thresholds_hold(home: Path) -> None:
    thresholds = load_policy(Settings(runbook_home=home)).thresholds
    assert thresholds.failure_rate_warning_percent == 10
    assert thresholds.failure_rate_critical_percent == 20


def test_what_a_team_says_of_one_level_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('[levels.2]\ntitle = "Platform"\ncontacts = ["platform@example.org"]\n')
    levels = read_policy(file).levels
    assert levels["2"].contacts == ("platform@example.org",)
    assert levels["3"].title == "Technical lead"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[thresholds]\nfailure_rate_warnin_percent = 3\n", "thresholds.failure_rate_warnin_percent"),
        ("[levels.4]\ntitle = 'x'\n", "levels are 1, 2 and 3"),
        ("[quiet_hours]\nbegin = 22:00:00\n", "begin and end belong together"),
        ("[quiet_hours]\ntimezone = 'Mars/Olympus'\n", "is no time zone"),
        ("[[maintenance_windows]]\nbegin = 2026-01-02T00:00:00Z\nend = 2026-01-01T00:00:00Z\nreason = 'x'\n", "end must come after begin"),
        ("thresholds = ", "is not TOML"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_with_the_entry(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        read_policy(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml cannot be read"):
        load_policy(Settings(runbook_config=tmp_path / "absent.toml"))
