"""The functions over HTTP: the same answers as the command's, and no junk that makes them fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running_console import RunningConsole

from runbook_lib.functions import FUNCTIONS

PATH = "/functions/v1/"


def post(console: RunningConsole, name: str, data: Any, *, write: bool = False) -> Any:
    token = console.house.tokens.write if write else ""
    return console.request(
        "POST", PATH + name, token, data=data if isinstance(data, bytes | str) else json.dumps(data)
    )


def test_health_without_a_token_says_whether_it_works_and_no_more(console: RunningConsole) -> None:
    for method in ("GET", "POST"):
        answer = console.request(method, PATH + "health", None)
        assert answer.status_code in (200, 503)
        assert answer.json() == {"status": "ok" if answer.status_code == 200 else "unavailable"}
    assert "checks" in console.get(PATH + "health").json()


def test_a_function_answers_over_http_what_the_command_answers(console: RunningConsole) -> None:
    settings = console.house.settings
    assert settings.database_url is not None
    told = subprocess.run(
        [sys.executable, "-m", "runbook_lib.cli", "function", "sweeper", "--json"],
        env={**os.environ, "DATABASE_URL": settings.database_url.get_secret_value(),
             "RUNBOOK_HOME": str(settings.runbook_home)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = console.get(PATH + "sweeper")
    assert answer.status_code == 200
    assert answer.json().keys() == json.loads(told.stdout).keys()


def test_metrics_are_prometheus_text_for_whoever_has_the_read_token(
    console: RunningConsole,
) -> None:
    assert console.request("GET", "/metrics", None).status_code == 401
    answer = console.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "\nrunbook_up 1.0\n" in answer.text


def test_what_changes_something_needs_the_write_token_and_a_preview_does_not(
    console: RunningConsole,
) -> None:
    refused = post(console, "sweeper", {})
    assert refused.status_code == 403
    assert "$RUNBOOK_WRITE_TOKEN" in refused.json()["curl"]
    assert post(console, "sweeper", {"dry_run": True}).status_code == 200
    assert post(console, "sweeper", {}, write=True).status_code == 200
    assert (
        post(console, "content-automation", {"action": "enqueue", "topic": "x"}).status_code == 403
    )


def test_a_refused_call_gets_the_line_with_what_it_sent(console: RunningConsole) -> None:
    answer = console.request("POST", PATH + "sweeper", None, data='{"dry_run": true}')
    line = answer.json()["curl"]
    assert answer.status_code == 401
    assert "'{\"dry_run\": true}'" in line
    assert f"{console.url}{PATH}sweeper" in line


def test_a_name_that_is_no_function_is_answered_with_those_that_are(
    console: RunningConsole,
) -> None:
    answer = console.get(PATH + "sweper")
    assert answer.status_code == 404
    assert "Did you mean sweeper?" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    ["[", "[]", "null", "1e999", '{"days": NaN}', '{"days": "\\u0000"}', '{"time_zone": "\\ud800"}',
     '{"a": ' + "[" * 5000 + "]" * 5000 + "}", b"\xff\xfe", '{"days": 1e400}', '{"days": 10000000000000000000000}'],
)  # fmt: skip
def test_junk_is_refused(console: RunningConsole, body: str | bytes) -> None:
    answer = post(console, "metrics", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


def test_the_openapi_document_names_every_function_and_how_to_come_in(
    console: RunningConsole,
) -> None:
    assert console.get("/openapi.json", None).status_code == 401
    document = console.get("/openapi.json").json()
    assert {path.removeprefix(PATH) for path in document["paths"] if path.startswith(PATH)} == set(
        FUNCTIONS
    )
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for name in FUNCTIONS:
        for method in ("get", "post"):
            security = document["paths"][PATH + name][method]["security"]
            assert ({} in security) == (name == "health")


@pytest.mark.long
def test_schemathesis_finds_nothing(console: RunningConsole, tmp_path: Path) -> None:
    _search_for_faults(console, tmp_path, "--phases", "fuzzing", "--max-examples", "2")


@pytest.mark.long
def test_schemathesis_finds_nothing_in_a_longer_search(
    console: RunningConsole, tmp_path: Path
) -> None:
    _search_for_faults(console, tmp_path, "--max-examples", "60")


def _search_for_faults(console: RunningConsole, folder: Path, *options: str) -> None:
    """Lets schemathesis make requests out of the OpenAPI document, fitting and unfitting ones.

    That the system is not well is an answer of `health`, with 503, and no error of ours: the topics that
    the search adds wait for a worker that there is none of.
    """
    (folder / "schemathesis.toml").write_text(
        f'[[operations]]\ninclude-path = "{PATH}health"\nchecks.not_a_server_error.enabled = false\n'
    )
    program = Path(sys.executable).with_name("schemathesis")
    token = f"Authorization: Bearer {console.house.tokens.write}"
    searched = subprocess.run(
        [str(program), "run", f"{console.url}/openapi.json", "-H", token, "--seed", "1",
         "--request-timeout", "60", *options],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert searched.returncode == 0, searched.stdout[-4000:] + searched.stderr[-1000:]
    assert "passed" in searched.stdout
