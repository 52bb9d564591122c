"""Who comes in to the console: no route opens without a token, and no other site acts in somebody's name."""

from __future__ import annotations

import json
import re
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from running_console import Browser, RunningConsole

from runbook_lib.console.admission import allowed_hosts
from runbook_lib.console.application import create
from runbook_lib.console.failed_logins import IN_ALL, PER_PERSON, PER_PROGRAM, FailedLogins
from runbook_lib.console.sessions import SESSION_SECONDS, Sessions
from runbook_lib.credentials.console_tokens import issue_login, load_tokens, redeem_login
from runbook_lib.errors import ConfigurationError
from runbook_lib.settings import Settings

# Open to everybody: how one signs in, what pages look like, and whether it works at all.
OPEN = {"/login", "/static/{name}"}
HEALTH = "/functions/v1/health"


def routes(console: RunningConsole) -> Iterator[tuple[str, str]]:
    """Every route that the application has, with an address that fits its template."""
    application = create(console.house.settings)
    paths = {
        (method, route.path)
        for route in _flat(application.routes)
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    assert len(paths) > 10
    for method, path in sorted(paths):
        if path not in OPEN:
            yield method, re.sub(r"{[^}]*}", "x", path)


def _flat(found: Any) -> Iterator[Any]:
    for route in found:
        inner = getattr(route, "routes", None) or getattr(
            getattr(route, "original_router", None), "routes", None
        )
        if inner:
            yield from _flat(inner)
        else:
            yield route


@pytest.fixture(scope="module")
def reader(console: RunningConsole) -> Browser:
    return console.browser("rita", "read")


def test_every_route_refuses_nobody_a_wrong_token_an_expired_session_and_another_scope(
    console: RunningConsole, reader: Browser
) -> None:
    other = Sessions(b"another key")
    expired = Sessions(console.house.tokens.signing_key)
    expired_value = expired._signed(
        "session",
        {"session_id": "1", "actor": "ana", "scope": "write", "expires_at": time.time() - 1},
    )
    credentials: dict[str, dict[str, str]] = {
        "none": {},
        "wrong": {"Authorization": "Bearer no-token-of-this-console"},
        "empty": {"Authorization": "Bearer "},
        "basic": {"Authorization": "Basic YTpi"},
        "altered": {"Authorization": f"Bearer {console.house.tokens.write}x"},
        "expired session": {"Cookie": f"{expired.cookie}={expired_value}"},
        "foreign session": {"Cookie": f"{expired.cookie}={other.begin('eve', 'write')[1]}"},
    }
    asked = 0
    for method, path in routes(console):
        for name, headers in credentials.items():
            answer = console.request(method, path, None, headers=headers)
            if path == HEALTH and name in ("none", "expired session", "foreign session"):
                assert answer.status_code in (200, 503)
                assert answer.json() in ({"status": "ok"}, {"status": "unavailable"})
                continue
            assert answer.status_code in (401, 429), (method, path, name, answer.status_code)
            assert len(answer.content) < 1000
            asked += 1
        if path == "/logout":
            continue  # Leaving takes no right, and the reader is needed for the routes after it.
        if method != "GET" and not path.startswith("/functions/"):
            by_token = console.request(method, path, headers={"Content-Type": "text/plain"})
            by_cookie = reader.send(path, {}, allow_redirects=False)
            assert by_token.status_code == 403, (method, path)
            assert by_cookie.status_code == 403, (method, path)
    assert asked > 50


def test_a_refused_program_gets_the_line_that_would_work(console: RunningConsole) -> None:
    answer = console.get("/jobs?status=error", None)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    line = answer.json()["curl"]
    assert '"Authorization: Bearer $RUNBOOK_READ_TOKEN"' in line
    assert f"'{console.url}/jobs?status=error'" in line
    assert console.get("/jobs?status=error").status_code == 200


def test_a_login_link_works_once_and_its_token_is_in_no_address(console: RunningConsole) -> None:
    link = issue_login(console.house.settings, "ana")
    browser = requests.Session()
    sent = {
        "data": {"token": f"{console.url}/login#{link}", "to": "/jobs"},
        "headers": {"Origin": console.url},
    }
    first = browser.post(f"{console.url}/login", allow_redirects=False, **sent)  # type: ignore[arg-type]
    assert (first.status_code, first.headers["location"]) == (303, "/jobs")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert link not in cookie
    again = requests.post(f"{console.url}/login", allow_redirects=False, **sent)  # type: ignore[arg-type]
    assert again.status_code in (401, 429)
    assert "set-cookie" not in again.headers


def test_one_link_lets_in_one_of_those_who_use_it_at_the_same_time(home: Path) -> None:
    settings = Settings(runbook_home=home)
    link = issue_login(settings, "ana", "read")
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(redeem_login(settings, link)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([each for each in found if each]) == 1


def test_an_old_link_lets_nobody_in(home: Path) -> None:
    settings = Settings(runbook_home=home)
    link = issue_login(settings, "ana")
    (file,) = (home / "tokens" / "logins").iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "expires_at": time.time() - 1}))
    assert redeem_login(settings, link) is None


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "jobs", "/\tx", "/login?to=/x"],
)
def test_signing_in_leads_to_no_other_site(console: RunningConsole, to: str) -> None:
    link = issue_login(console.house.settings, "ana")
    answer = requests.post(
        f"{console.url}/login", data={"token": link, "to": to}, headers={"Origin": console.url},
        allow_redirects=False, timeout=60,
    )  # fmt: skip
    assert answer.headers["location"] == "/"


def test_a_lasting_token_signs_in_with_a_name(console: RunningConsole) -> None:
    def sign_in(**fields: str) -> requests.Response:
        return requests.post(f"{console.url}/login", data=fields, allow_redirects=False, timeout=60)

    token = console.house.tokens.read
    assert sign_in(token=token).status_code == 400
    assert sign_in(token=token, actor="rita").status_code == 303


def test_a_form_needs_the_token_of_its_page_and_the_origin_of_this_console(
    console: RunningConsole,
) -> None:
    ana, bob = console.browser("ana"), console.browser("bob")
    fields = {"provider": "openai", "reason": "a test"}

    def pause(headers: dict[str, str] | None = None, **more: str) -> int:
        return ana.send(
            "/brakes/pause", {**fields, **more}, headers=headers or {}, allow_redirects=False
        ).status_code

    assert pause(form_token="") == 403
    assert pause(form_token=bob.form_token()) == 403
    assert pause({"Origin": "https://evil.example"}) == 403
    assert pause({"Origin": "null"}) == 403
    assert pause({"Sec-Fetch-Site": "cross-site"}) == 403
    assert pause({"Origin": console.url.replace("http", "https")}) == 303
    assert pause() == 303


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "a@127.0.0.1", ""]
)
def test_another_host_name_is_not_answered(console: RunningConsole, host: str) -> None:
    answer = console.get("/", headers={"Host": host})
    assert answer.status_code in (400, 421)


def test_hosts_come_from_the_settings() -> None:
    settings = Settings(
        runbook_allowed_hosts="ops.example.org, 10.0.0.4:8080", runbook_public_url="https://Run.example.org/",
        runbook_console_address="0.0.0.0:80",
    )  # fmt: skip
    assert allowed_hosts(settings) == {
        "127.0.0.1", "localhost", "::1", "ops.example.org", "10.0.0.4", "run.example.org",
    }  # fmt: skip


def test_failed_logins_are_limited_and_lock_nobody_out(console: RunningConsole) -> None:
    def status(token: str) -> requests.Response:
        return console.get("/jobs", token)

    answers = [status(f"wrong token {number}") for number in range(PER_PROGRAM * 3)]
    assert answers[-1].status_code == 429
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    assert status(console.house.tokens.read).status_code == 200
    assert console.browser().get("/jobs").status_code == 200


def test_failures_are_counted_by_client_and_in_all() -> None:
    now = [0.0]
    failures = FailedLogins(PER_PERSON, lambda: now[0])
    assert [failures.record("a") for _ in range(PER_PERSON)] == [0] * PER_PERSON
    assert failures.record("a") == 6
    assert failures.record("b") == 0
    assert max(failures.record(f"client {number}") for number in range(IN_ALL)) > 0
    now[0] += 60
    assert failures.record("a") == 0


def test_tokens_are_made_once_and_for_their_owner_only(home: Path) -> None:
    settings = Settings(runbook_home=home)
    made = load_tokens(settings)
    assert load_tokens(settings) == made
    for name in ("read", "write"):
        assert stat.S_IMODE((home / "tokens" / name).stat().st_mode) == 0o600
    assert made.read not in repr(made)


@pytest.mark.parametrize(
    "tokens",
    [
        {"runbook_read_token": "short"},
        {
            "runbook_read_token": "the same for both of them",
            "runbook_write_token": "the same for both of them",
        },
        {"runbook_write_token": "one that holds a\nline end"},
    ],
)
def test_a_token_that_could_be_guessed_is_refused(home: Path, tokens: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="TOKEN"):
        load_tokens(Settings(runbook_home=home, **tokens))


def test_a_cookie_that_was_altered_or_is_over_is_none_of_ours() -> None:
    sessions = Sessions(b"key")
    session, cookie = sessions.begin("ana", "read")
    assert sessions.read(cookie) == session
    assert session.expires_at - time.time() <= SESSION_SECONDS
    body, _, signature = cookie.partition(".")
    for altered in (
        f"{body}x.{signature}",
        f"{body}.{signature[:-1]}",
        body,
        "",
        None,
        f"{body}.é",
        "." * 4000,
    ):
        assert sessions.read(altered) is None
    assert sessions.read(sessions.note("a text", "done")) is None
    assert sessions.read_note(cookie) is None


def test_a_new_write_token_ends_every_session(home: Path) -> None:
    before = load_tokens(Settings(runbook_home=home))
    after = load_tokens(
        Settings(runbook_home=home, runbook_write_token="another token that is long")
    )
    _, cookie = Sessions(before.signing_key).begin("ana", "write")
    assert Sessions(after.signing_key).read(cookie) is None


def test_every_answer_carries_the_headers_that_guard_it(console: RunningConsole) -> None:
    answers = [
        console.get("/"), console.get("/nothing"), console.get("/", None), console.get("/static/console.css", None),
        console.get("/", headers={"Host": "evil.example"}),
    ]  # fmt: skip
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]


def test_pages_ask_for_nothing_from_outside_and_hold_no_script(console: RunningConsole) -> None:
    ana = console.browser()
    for path in ("/", "/jobs", "/brakes", "/changes", "/access", "/login"):
        text = ana.get(path).text
        assert not re.search(r"<script(?![^>]*\ssrc=\"/static/)", text)
        assert not re.search(r"\son\w+=|javascript:|\sstyle=", text)
        assert not re.findall(r'(?:src|href|action)="(?![/?#]|")[^"]*"', text)


def test_junk_is_refused_in_words(console: RunningConsole) -> None:
    write = console.house.tokens.write

    def post(path: str, **options: Any) -> int:
        return console.request("POST", path, write, **options).status_code

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert post("/brakes/pause", data=b"x" * 300_000, headers=form) == 413
    assert post("/brakes/pause", data=b"provider=%00&reason=x", headers=form) == 400
    assert post("/brakes/pause", data=b"\xff\xfe=%zz", headers=form) == 400
    assert post("/brakes/pause", data="&".join(f"a{n}=1" for n in range(400)), headers=form) == 400
    assert post("/brakes/pause", json=[[[]]]) in (303, 400)
    assert console.get("/jobs?search=%00").status_code == 400
    assert console.get("/jobs?search=%ff%fe&status=%27&before=x").status_code in (200, 400)
    assert console.get("/" + "a" * 9000).status_code in (400, 404)
    assert console.get("/jobs?search=" + "a" * 9000).status_code == 400
    assert console.request("TRACE", "/jobs").status_code in (403, 405)
    assert console.request("DELETE", "/jobs", write).status_code == 405


def test_the_access_log_names_who_came_in_and_never_a_value(console: RunningConsole) -> None:
    ana = console.browser("ana <b>")
    ana.get("/jobs?search=a-private-search")
    console.get("/jobs/abcdef0123456789", None)
    assert console.database is not None
    until = time.monotonic() + 60
    while True:
        with console.database.transaction(read_only=True) as transaction:
            rows = transaction.rows(
                "SELECT token, actor, method, route, status, outcome, access_log::text AS whole FROM access_log"
            )
        found = {(row.token, row.actor, row.method, row.route, row.outcome) for row in rows}
        if ("session (write)", "ana <b>", "GET", "/jobs", "served") in found:
            break
        assert time.monotonic() < until, found
        time.sleep(0.05)
    whole = "\n".join(row.whole for row in rows)
    for value in (
        "a-private-search",
        console.house.tokens.read,
        console.house.tokens.write,
        "abcdef0123456789",
    ):
        assert value not in whole
    assert any(row.token == "none" and row.outcome == "refused" for row in rows)
