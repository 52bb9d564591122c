"""The stand-in WordPress answers as a real one does, and fails as real ones do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from running_sandbox import RunningSandbox
from wordpress_contract import LOGINS, Observer
from wordpress_site import WordPressSite

POSTS = "/wp/v2/posts"
RECORDED = json.loads((Path(__file__).parent / "wordpress_contract.json").read_text("utf-8"))


def _draft(sandbox: RunningSandbox, title: str = "A draft", **fields: Any) -> requests.Response:
    return sandbox.wordpress("POST", POSTS, json={"title": title, "status": "draft", **fields})


def _wait_for(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while not (value := found()):
        assert time.monotonic() < end, "it did not happen in 20 s"
        time.sleep(0.02)
    return value


def _titles(sandbox: RunningSandbox) -> list[str]:
    return [post["title"] for post in sandbox.control.posts()]


def _observe(url: str, users: dict[str, tuple[str, str]]) -> list[tuple[Any, Any]]:
    """The answers that differ from the recorded ones, each with what was recorded."""
    observed = list(Observer(url, users).observe())
    assert [each["case"] for each in observed] == [each["case"] for each in RECORDED]
    return [pair for pair in zip(observed, RECORDED, strict=True) if pair[0] != pair[1]]


def test_every_answer_of_the_contract_is_the_one_of_a_real_wordpress(
    running_sandbox: RunningSandbox,
) -> None:
    users = {
        role: (f"bot-{role}", running_sandbox.control.make_user(f"bot-{role}", role))
        for role in ("editor", "contributor", "subscriber")
    }
    users["author"] = (running_sandbox.user, running_sandbox.app_password)
    assert _observe(running_sandbox.url, users) == []


def test_the_contract_is_still_what_a_real_wordpress_answers(wordpress: WordPressSite) -> None:
    users = {role: (role, wordpress.passwords[role]) for role in LOGINS}
    assert _observe(wordpress.url, users) == []


# What a real 6.8.12 answered with these plugins and settings: status and code of a look-up with the right
# password, with a wrong one, of the index without a login, and of a draft with the right password.
VARIANTS = {
    "rest_requires_login": (200, None, 401, "rest_not_logged_in", 401, 201, None),
    "rest_forbidden": (403, "rest_forbidden", 403, "rest_forbidden", 403, 403, "rest_forbidden"),
    "no_application_passwords": (200, None, 200, None, 200, 401, "rest_cannot_create"),
    "security_plugin": (200, None, 401, "incorrect_password", 200, 201, None),
    "login_revoked": (200, None, 200, None, 200, 401, "rest_cannot_create"),
    "strip_auth": (200, None, 200, None, 200, 401, "rest_cannot_create"),
    "plain_permalinks": (301, None, 301, None, 200, 200, None),
}


def _code(answer: requests.Response) -> str | None:
    try:
        found = answer.json()
    except ValueError:
        return None
    return found.get("code") if isinstance(found, dict) else None


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_site_with_a_restriction_answers_as_a_real_one(
    running_sandbox: RunningSandbox, kind: str
) -> None:
    running_sandbox.control.set_fault("wordpress", kind)
    right = running_sandbox.wordpress("GET", POSTS, params={"slug": "zzz"})
    wrong = running_sandbox.wordpress(
        "GET", POSTS, params={"slug": "zzz"}, auth=(running_sandbox.user, "wrong")
    )
    index = running_sandbox.wordpress("GET", "/", auth=None)
    draft = _draft(running_sandbox)
    seen = (right.status_code, _code(right), wrong.status_code, _code(wrong), index.status_code, draft.status_code, _code(draft))  # fmt: skip
    assert seen == VARIANTS[kind]


def test_plain_permalinks_leave_the_plain_address_only(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("wordpress", "plain_permalinks")
    redirect = running_sandbox.wordpress("GET", f"{POSTS}?slug=x")
    assert redirect.headers["Location"] == f"{running_sandbox.url}/wp-json{POSTS}/?slug=x"
    assert (
        running_sandbox.wordpress("GET", f"{POSTS}/")
        .headers["Content-Type"]
        .startswith("text/html")
    )
    plain = requests.get(running_sandbox.url, params={"rest_route": POSTS, "slug": "x"}, timeout=10)
    assert plain.json() == []


def test_without_application_passwords_the_index_says_so_with_a_list(
    running_sandbox: RunningSandbox,
) -> None:
    running_sandbox.control.set_fault("wordpress", "no_application_passwords")
    assert running_sandbox.wordpress("GET", "/").json()["authentication"] == []


@pytest.mark.parametrize(
    ("role", "status", "code"),
    [
        ("subscriber", "draft", "rest_cannot_create"),
        ("contributor", "publish", "rest_cannot_publish"),
    ],
)
def test_a_lowered_role_may_log_in_and_not_publish(
    running_sandbox: RunningSandbox, role: str, status: str, code: str
) -> None:
    running_sandbox.control.set_fault("wordpress", "permission_lost", role=role)
    me = running_sandbox.wordpress("GET", "/wp/v2/users/me", params={"context": "edit"}).json()
    refused = _draft(running_sandbox, status=status)
    assert (me["roles"], refused.status_code, _code(refused)) == ([role], 403, code)


def test_a_deleted_category_is_neither_listed_nor_set_and_no_error(
    running_sandbox: RunningSandbox,
) -> None:
    news = running_sandbox.control.ensure_categories(["News"])["News"]
    running_sandbox.control.set_fault("wordpress", "category_deleted", category="News")
    listed = running_sandbox.wordpress("GET", "/wp/v2/categories", params={"slug": "news"}).json()
    made = _draft(running_sandbox, categories=[news])
    assert (listed, made.status_code, made.json()["categories"]) == ([], 201, [])


def test_what_the_site_changes_in_silence_shows_in_its_answer(
    running_sandbox: RunningSandbox,
) -> None:
    running_sandbox.control.set_fault(
        "wordpress", "answer_differs", fields={"content": "Something else"}
    )
    assert _draft(running_sandbox, content="Asked").json()["content"]["raw"] == "Something else"


# faults before the work: nothing is made


@pytest.mark.parametrize(
    ("options", "status", "content_type", "retry_after"),
    [
        ({"kind": "status", "status": 502}, 502, "text/html", None),
        (
            {"kind": "status", "status": 429, "body": "json", "retry_after": 30},
            429,
            "application/json",
            "30",
        ),
        ({"kind": "status", "status": 503, "body": "empty"}, 503, None, None),
        ({"kind": "maintenance"}, 503, "application/json", "600"),
        ({"kind": "database_error"}, 500, "application/json", None),
        ({"kind": "fatal_error"}, 500, "application/json", None),
        (
            {"kind": "redirect", "status": 308, "location": "http://other.test"},
            308,
            "text/html",
            None,
        ),
        ({"kind": "html"}, 200, "text/html", None),
    ],
)
def test_a_refusal_before_the_work_makes_nothing(
    running_sandbox: RunningSandbox,
    options: dict[str, Any],
    status: int,
    content_type: str | None,
    retry_after: str | None,
) -> None:
    running_sandbox.control.set_fault("wordpress", **options, count=1)
    answer = _draft(running_sandbox)
    kind = answer.headers.get("Content-Type")
    assert (answer.status_code, kind and kind.split(";")[0], answer.headers.get("Retry-After")) == (status, content_type, retry_after)  # fmt: skip
    assert _titles(running_sandbox) == []


def test_a_redirect_keeps_the_path(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault(
        "wordpress", "redirect", location="https://www.site.test", count=1
    )
    answer = _draft(running_sandbox)
    assert answer.headers["Location"] == f"https://www.site.test/wp-json{POSTS}"


def test_maintenance_is_a_page_for_who_did_not_ask_for_json(
    running_sandbox: RunningSandbox,
) -> None:
    running_sandbox.control.set_fault("wordpress", "maintenance")
    answer = requests.get(f"{running_sandbox.url}/wp-json{POSTS}", timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=UTF-8")


@pytest.mark.parametrize("kind", ["reset", "black_hole"])
def test_without_an_answer_and_without_work(running_sandbox: RunningSandbox, kind: str) -> None:
    running_sandbox.control.set_fault("wordpress", kind)
    with pytest.raises(
        requests.exceptions.ConnectionError if kind == "reset" else requests.exceptions.Timeout
    ):
        running_sandbox.wordpress("POST", POSTS, json={"title": "x"}, timeout=0.3)
    assert _titles(running_sandbox) == []
    assert [entry["status"] for entry in running_sandbox.control.journal()] == [None]


# faults after the work: the post is there


@pytest.mark.parametrize("how", ["status", "cut", "reset", "silence"])
def test_the_work_is_done_and_its_answer_lost(running_sandbox: RunningSandbox, how: str) -> None:
    running_sandbox.control.set_fault(
        "wordpress", "answer_lost", how=how, method="POST", path="/posts"
    )
    made = {"title": "Made", "status": "publish"}
    if how == "status":
        assert running_sandbox.wordpress("POST", POSTS, json=made).status_code == 504
    else:
        with pytest.raises(requests.exceptions.RequestException):
            running_sandbox.wordpress("POST", POSTS, json=made, timeout=0.5)
    assert [(post["title"], post["status"]) for post in running_sandbox.control.posts()] == [
        ("Made", "publish")
    ]


def test_a_printed_warning_stands_before_valid_json(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("wordpress", "notice")
    answer = _draft(running_sandbox)
    assert answer.text.startswith("<br />\n<b>Warning</b>")
    assert json.loads(answer.text.split("<br />\n")[2])["title"]["raw"] == "A draft"


def test_half_a_body_ends_before_its_length(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("wordpress", "cut_body")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        _draft(running_sandbox)
    assert _titles(running_sandbox) == ["A draft"]


def test_a_late_commit_comes_although_the_client_went_away(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("wordpress", "commit_delay", delay_seconds=0.4)
    with pytest.raises(requests.exceptions.Timeout):
        running_sandbox.wordpress(
            "POST", POSTS, json={"title": "Late", "slug": "late"}, timeout=0.1
        )
    looked_up = running_sandbox.wordpress("GET", POSTS, params={"slug": "late", "status": "any"})
    assert looked_up.json() == []
    assert _wait_for(lambda: _titles(running_sandbox)) == ["Late"]


def test_a_late_commit_answers_a_client_that_waits(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("wordpress", "commit_delay", delay_seconds=0.1)
    assert (_draft(running_sandbox).status_code, _titles(running_sandbox)) == (201, ["A draft"])


@pytest.mark.parametrize("answer", ["status", "reset"])
def test_a_late_commit_without_an_answer(running_sandbox: RunningSandbox, answer: str) -> None:
    running_sandbox.control.set_fault("wordpress", "commit_delay", delay_seconds=0.1, answer=answer)
    if answer == "status":
        assert _draft(running_sandbox).status_code == 504
    else:
        with pytest.raises(requests.exceptions.ConnectionError):
            _draft(running_sandbox)
    assert _wait_for(lambda: _titles(running_sandbox)) == ["A draft"]


def test_two_late_commits_under_one_slug_both_become_posts(running_sandbox: RunningSandbox) -> None:
    """The race that a publisher must not rely on a look-up to avoid."""
    running_sandbox.control.set_fault(
        "wordpress", "commit_delay", delay_seconds=0.1, answer="status"
    )
    for _ in range(2):
        _draft(running_sandbox, slug="one-slug")
    posts = _wait_for(lambda: len(found := running_sandbox.control.posts()) == 2 and found)
    assert [post["slug"] for post in posts] == ["one-slug", "one-slug-2"]


# around it


def test_application_passwords_can_be_made_and_revoked(running_sandbox: RunningSandbox) -> None:
    route = "/wp/v2/users/me/application-passwords"
    made = running_sandbox.wordpress("POST", route, json={"name": "rotation"}).json()
    new = (running_sandbox.user, made["password"])
    assert (
        running_sandbox.wordpress("GET", f"{route}/introspect", auth=new).json()["name"]
        == "rotation"
    )
    running_sandbox.wordpress("DELETE", f"{route}/{made['uuid']}")
    assert running_sandbox.wordpress("GET", "/wp/v2/users/me", auth=new).status_code == 401


def test_a_post_that_is_due_becomes_published(running_sandbox: RunningSandbox) -> None:
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 1))
    made = running_sandbox.wordpress(
        "POST", POSTS, json={"title": "Soon", "status": "publish", "date_gmt": date}
    )
    assert made.json()["status"] == "future"
    route = f"{POSTS}/{made.json()['id']}"
    _wait_for(lambda: running_sandbox.wordpress("GET", route).json()["status"] == "publish")


def test_people_can_read_what_was_published(running_sandbox: RunningSandbox) -> None:
    made = running_sandbox.wordpress("POST", POSTS, json={"title": "It's <b>here</b>", "content": "<p>Words</p>", "status": "publish"})  # fmt: skip
    link = made.json()["link"]
    page = requests.get(link, timeout=10)
    assert (page.status_code, "<h1>It’s here</h1>" in page.text, "<p>Words</p>" in page.text) == (
        200,
        True,
        True,
    )
    assert link in requests.get(running_sandbox.url, timeout=10).text
    assert requests.get(f"{running_sandbox.url}/nothing-here/", timeout=10).status_code == 404


def test_a_large_post_round_trips(running_sandbox: RunningSandbox) -> None:
    content = "<p>Ünïcode 🚀 text.</p>\n" * 50_000
    made = _draft(running_sandbox, content=content)
    found = running_sandbox.wordpress(
        "GET", f"{POSTS}/{made.json()['id']}", params={"context": "edit"}
    )
    assert found.json()["content"]["raw"] == content
