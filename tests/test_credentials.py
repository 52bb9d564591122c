"""Credentials: a running process uses a rotated key, and never a half-written one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.credentials.masking import mask
from runbook_lib.credentials.store import Credentials
from runbook_lib.errors import ConfigurationError
from runbook_lib.health.checks import worst_verdict
from runbook_lib.health.probes.openai import probe_openai
from runbook_lib.health.probes.wordpress import probe_wordpress
from runbook_lib.pipeline.providers import OPENAI_ADDRESS, resolve_providers
from runbook_lib.settings import Settings, environment_without_callers, read_settings


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENAI_API_KEY", "WORDPRESS_URL", "WORDPRESS_USER", "WORDPRESS_APP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / ".env"
    _write(file, "key-of-the-first-day")
    return file


def _write(file: Path, key: str) -> None:
    file.write_text(
        f"OPENAI_API_KEY={key}\nWORDPRESS_URL=https://site.example\n"
        "WORDPRESS_USER=content-bot\nWORDPRESS_APP_PASSWORD='abcd efgh ijkl mnop qrst uvwx'\n"
    )


def test_rotated_key_in_the_file_is_used_without_a_restart(env_file: Path) -> None:
    read_key = Credentials(read_settings(env_file)).reader("OPENAI_API_KEY")
    assert read_key() == "key-of-the-first-day"
    _write(env_file, "key-of-the-second-day")
    assert read_key() == "key-of-the-second-day"
    assert "key-of-the-second-day" not in mask("refused: key-of-the-second-day")


def test_file_replaced_under_the_same_time_and_length_is_noticed(env_file: Path) -> None:
    read_key = Credentials(read_settings(env_file)).reader("OPENAI_API_KEY")
    before = env_file.stat()
    other = env_file.with_name("new")
    _write(other, "key-of-the-other-day")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(env_file)
    assert env_file.stat().st_mtime_ns == before.st_mtime_ns
    assert read_key() == "key-of-the-other-day"


def test_refused_login_can_ask_for_a_new_reading(env_file: Path) -> None:
    credentials = Credentials(read_settings(env_file))
    assert credentials.read_again() is False
    _write(env_file, "key-of-the-third-day")
    assert credentials.read_again() is True
    assert credentials.credential("OPENAI_API_KEY").get_secret_value() == "key-of-the-third-day"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"OPENAI_API_KEY=",
        b"OPENAI_API_KEY=\xff\xfe\n",
        b"OPENAI_API_KEY='a\x01bcdefg'\nRUNBOOK_CONCURRENCY=no\n",
    ],
)
def test_file_that_does_not_fit_leaves_the_earlier_values_in_use(
    env_file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    read_key = Credentials(read_settings(env_file)).reader("OPENAI_API_KEY")
    env_file.write_bytes(content)
    assert read_key() == "key-of-the-first-day"
    env_file.unlink()
    assert read_key() == "key-of-the-first-day"
    _write(env_file, "key-of-the-fourth-day")
    assert read_key() == "key-of-the-fourth-day"
    assert "key-of" not in caplog.text


def test_environment_wins_over_the_file_also_after_a_change(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-environment")
    read_key = Credentials(read_settings(env_file)).reader("OPENAI_API_KEY")
    _write(env_file, "key-of-the-fifth-day")
    assert read_key() == "key-of-the-environment"


def test_settings_made_by_hand_follow_no_file() -> None:
    credentials = Credentials(Settings(_env_file=None, openai_api_key="key-by-hand"))
    assert credentials.read_again() is False
    assert credentials.reader("OPENAI_API_KEY")() == "key-by-hand"


def test_missing_credential_is_said_with_its_name(env_file: Path) -> None:
    credentials = Credentials(read_settings(env_file))
    with pytest.raises(ConfigurationError, match="OPENAI_ADMIN_KEY is not set"):
        credentials.credential("OPENAI_ADMIN_KEY")
    with pytest.raises(ValueError, match="not a credential"):
        credentials.credential("OPENAI_KEY")


def test_configured_providers_are_real_and_show_no_secret(env_file: Path) -> None:
    with resolve_providers(read_settings(env_file)) as providers:
        assert (providers.openai.base_url, providers.openai.sandboxed) == (OPENAI_ADDRESS, False)
        assert providers.openai.api_key() == "key-of-the-first-day"
        assert providers.wordpress.app_password() == "abcd efgh ijkl mnop qrst uvwx"
        assert "key-of" not in repr(providers)
        assert "efgh" not in repr(providers)
        assert "https://site.example" in providers.describe()


def test_half_configured_provider_is_refused_and_never_sandboxed(env_file: Path) -> None:
    env_file.write_text("WORDPRESS_URL=https://site.example\n")
    with pytest.raises(ConfigurationError, match="WORDPRESS_USER, WORDPRESS_APP_PASSWORD is not"):
        resolve_providers(read_settings(env_file))


def test_process_of_its_own_sees_the_new_key(env_file: Path, tmp_path: Path) -> None:
    """A worker that runs while `.env` is edited sends the new key."""
    program = (
        "from runbook_lib.settings import load_settings\n"
        "from runbook_lib.credentials.store import Credentials\n"
        "read_key = Credentials(load_settings()).reader('OPENAI_API_KEY')\n"
        "while input(): print(read_key(), flush=True)\n"
    )
    environment = {**environment_without_callers(tmp_path), "RUNBOOK_ENV_FILE": str(env_file)}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for key in ("key-of-the-first-day", "key-of-the-sixth-day"):
            _write(env_file, key)
            process.stdin.write("ask\n")
            assert process.stdout.readline().strip() == key
        process.stdin.write("\n")


def test_nothing_configured_means_the_sandbox_for_both_and_doctor_finds_it_in_order(
    home: Path,
) -> None:
    with resolve_providers(Settings(_env_file=None, runbook_home=home)) as providers:
        openai, wordpress = providers.openai, providers.wordpress
        assert openai.sandboxed
        assert wordpress.sandboxed
        assert "sandbox" in providers.describe()
        checks = [
            *probe_openai(openai.base_url, openai.api_key, openai.model),
            *probe_wordpress(wordpress.url, wordpress.user, wordpress.app_password),
        ]
    assert worst_verdict(checks) == "ok", [each for each in checks if each.verdict != "ok"]


def test_one_sandboxed_provider_leaves_the_other_real(env_file: Path, home: Path) -> None:
    settings = Settings(
        _env_file=None, openai_api_key="key-by-hand", runbook_sandbox="wordpress", runbook_home=home
    )
    with resolve_providers(settings) as providers:
        assert (providers.openai.sandboxed, providers.wordpress.sandboxed) == (False, True)
        assert providers.openai.api_key() == "key-by-hand"
