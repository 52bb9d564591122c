"""Masking: no secret survives, ordinary text does, and time grows with the length only."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib import known_secrets
from runbook_lib.credentials.masking import MASK, mask, one_line
from runbook_lib.settings import Settings

APPLICATION_PASSWORD = "cAn4 Ry5w Ord6 Pre7 Ss8k Ey9z"
DATABASE_PASSWORD = "c@nary/pass'word\"ü#1"
PLAIN_KEY = "canary-gateway-key-without-a-prefix"


@pytest.fixture(scope="module", autouse=True)
def canaries() -> None:
    Settings(
        _env_file=None,
        database_url=f"postgresql://worker:{quote(DATABASE_PASSWORD, safe='')}@db.example/pipeline",
        openai_api_key=PLAIN_KEY,
        wordpress_url="https://site.example",
        wordpress_user="content-bot",
        wordpress_app_password=APPLICATION_PASSWORD,
    ).make_secrets_known()


def _forms(secret: str) -> dict[str, str]:
    return {
        "raw": secret,
        "URL-quoted": quote(secret, safe=""),
        "URL-quoted as a form field": quote_plus(secret),
        "JSON": json.dumps({"value": secret}),
        "JSON with other characters kept": json.dumps({"value": secret}, ensure_ascii=False),
        "JSON in JSON": json.dumps(json.dumps(secret)),
        "Python": repr({"value": secret}),
        "base64": base64.b64encode(secret.encode()).decode(),
        "a Basic header of another user": base64.b64encode(f"someone:{secret}".encode()).decode(),
        "a Basic header of the other length": base64.b64encode(f"so:{secret}".encode()).decode(),
        "URL-safe base64": base64.urlsafe_b64encode(f"bot:{secret}\n".encode()).decode(),
        "an address": f"postgresql+psycopg2://worker:{quote(secret)}@host/db",
        "an unencoded address": f"postgresql://worker:{secret.replace(' ', '')}@host/db",
        "libpq": f"host=x password='{secret}' dbname=y",
    }


FORM_NAMES = list(_forms("x"))


@pytest.mark.parametrize("form", FORM_NAMES)
@pytest.mark.parametrize("secret", [APPLICATION_PASSWORD, DATABASE_PASSWORD, PLAIN_KEY])
def test_known_secret_does_not_survive_in_any_form(secret: str, form: str) -> None:
    text = f"before {_forms(secret)[form]} after"
    masked = mask(text)
    assert MASK in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    for core in (secret, quote(secret, safe=""), secret[3:-3], secret.replace(" ", "")):
        assert core not in masked
    decoded = _decoded_words(masked)
    assert not any(secret.encode()[:-2] in each for each in decoded)


def _decoded_words(text: str) -> list[bytes]:
    found = []
    for word in text.replace('"', " ").split():
        for altered in (word, word.replace("-", "+").replace("_", "/")):
            try:
                found.append(base64.b64decode(altered + "=" * (-len(altered) % 4)))
            except ValueError:
                continue
    return found


def test_application_password_is_found_without_its_spaces_and_with_them() -> None:
    assert mask(APPLICATION_PASSWORD.replace(" ", "")) == MASK
    assert mask(APPLICATION_PASSWORD) == MASK
    assert mask(quote_plus(APPLICATION_PASSWORD)) == MASK


UNKNOWN_SECRETS = {
    "an OpenAI key": ("the key sk-abcDEF0123456789abcDEF is wrong", "abcDEF0123"),
    "a project key": ("sk-proj-Ab_c-1234567890xyz", "1234567890"),
    "OpenAI's own hint": ("Incorrect API key provided: sk-proj-****9xYz.", "9xYz"),
    "a Supabase key": ("apikey: sb_secret_N7UND0UgjKTVK-Uodkm0Hg", "N7UND"),
    "a JSON web token": (
        "token eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZSJ9.c2lnbmF0dXJl ended",
        "c2lnbmF0dXJl",
    ),
    "a Basic header": ("Basic " + base64.b64encode(b"bot:hushhush").decode(), "Ym90Omh1c2"),
    "an Authorization header": ("{'Authorization': 'Token abcdefgh'}", "abcdefgh"),
    "a Bearer header": ("Authorization: Bearer abcdefghijklmnop", "abcdefgh"),
    "an address": ("could not connect to postgres://app:hu/sh@x@db/one", "hu/sh"),
    "an application password": ("login abcd EFGH 1234 ijkl MNOP 5678 failed", "EFGH"),
    "an application password, quoted": ("pw=abcd%20EFGH%201234%20ijkl%20MNOP%205678", "EFGH"),
    "an assignment": ("OPENAI_API_KEY=hushhush", "hushhush"),
    "a field in JSON": ('{"app_password": "hush \\" hush"}', "hush"),
    "a libpq string": ("host=a password='hush hush' port=1", "hush"),
}


@pytest.mark.parametrize("kind", UNKNOWN_SECRETS)
def test_unknown_secret_is_found_by_its_pattern(kind: str) -> None:
    text, canary = UNKNOWN_SECRETS[kind]
    assert canary in text
    assert canary not in mask(text)


@pytest.mark.parametrize(
    "text",
    [
        'FATAL: password authentication failed for user "worker"',
        "Basic Understanding of bearer securities",
        "2021 2022 2023 2024 2025 2026",
        "https://site.example:8080/users/@somebody and mail@site.example",
        '{"prompt_tokens": 123, "max_tokens": 400}',
        "ten-sk-learn-ideas 0192ab3c-7def-7000-8000-0123456789ab postgres",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert mask(text) == text


@given(st.text(alphabet=st.characters(min_codepoint=33, exclude_categories=["Cs"]), min_size=8))
@settings(max_examples=60, deadline=None)
def test_masking_twice_changes_nothing_more(text: str) -> None:
    assert mask(mask(text)) == mask(text)


def test_short_and_common_values_are_masked_where_they_are_a_password_only() -> None:
    known_secrets.register("postgres")
    known_secrets.register("abc")
    assert mask("postgres says abc") == "postgres says abc"
    assert mask("postgres://postgres:postgres@db") == f"postgres://postgres:{MASK}@db"
    assert mask("postgres://u:abc@db") == f"postgres://u:{MASK}@db"


def test_secret_in_bytes_is_named_before_a_file_is_kept() -> None:
    name = "OPENAI_API_KEY"
    assert known_secrets.found_in(b"..." + base64.b64encode(PLAIN_KEY.encode())) == [name]
    assert known_secrets.found_in(b"nothing here") == []


SLOW_CANDIDATES = [
    "sk-",
    "eyJ",
    "eyJa.",
    "a://b:",
    "://x:@",
    "Basic ",
    "abcd ",
    "password=",
    "_",
    "'",
]
SLOW_CANDIDATES += [
    '"password":"',
    "\\",
    "authorization:",
    "\x1b[",
    "\x1b]",
    "\x1b",
    "%20abcd",
    "A=",
    " ",
    "[masked]",
]


@pytest.mark.parametrize("piece", SLOW_CANDIDATES)
def test_time_grows_no_faster_than_the_text(piece: str) -> None:
    """Processor time for 1 MB against 1/16 of it: quadratic work would be 256 times as much, not 16."""

    def seconds(size: int) -> float:
        text = (piece * (size // len(piece) + 1))[:size]
        started = time.process_time()
        one_line(text)
        return time.process_time() - started

    assert seconds(1_000_000) < 60 * max(0.005, seconds(62_500))


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_one_line_is_one_printable_line_that_can_be_stored(text: str) -> None:
    line = one_line("\x1b[31m" + text, limit=80)
    assert len(line) <= 80
    assert len(line.splitlines()) <= 1
    assert "\x00" not in line
    assert "\x1b" not in line
    line.encode("utf-8")


def test_one_line_keeps_no_half_of_a_secret() -> None:
    for limit in range(1, 60):
        assert PLAIN_KEY[:8] not in one_line(f"key {PLAIN_KEY} end", limit=limit)


def test_one_line_finds_a_secret_behind_colours_and_line_ends() -> None:
    coloured = PLAIN_KEY[:9] + "\x1b[0m" + PLAIN_KEY[9:]
    assert one_line(f"a\x1b]8;;http://x\x07 {coloured}\nb") == f"a {MASK} b"
    assert one_line(APPLICATION_PASSWORD.replace(" ", "\r\n")) == MASK


def test_loading_the_settings_makes_their_secrets_known() -> None:
    environment = {
        **os.environ,
        "RUNBOOK_ENV_FILE": "",
        "OPENAI_API_KEY": "canary-of-the-environment",
    }
    program = (
        "from runbook_lib.settings import load_settings\n"
        "from runbook_lib.credentials.masking import mask\n"
        "load_settings(); print(mask('canary-of-the-environment'))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == MASK
