"""The WordPress client against a real WordPress, and against servers that answer as sites do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from fault_server import (
    Behaviour,
    BlackHole,
    FaultServer,
    after_index,
    answer,
    drip_body,
    drip_headers,
    endless,
    refused_port,
    reset,
    stall_after_request,
)
from wordpress_site import WordPressSite

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.failures import Failure, JobFailed
from runbook_lib.pipeline.wordpress import WordPressClient

CREATE = "POST /wp-json/wp/v2/posts"
PASSWORD = "abcd efgh ijkl mnop qrst uvwx"
ClientFor = Callable[..., WordPressClient]


def soon() -> Deadline:
    return Deadline.after(60)


def briefly() -> Deadline:
    """Long enough for a site to get the request, and shorter than it stays silent."""
    return Deadline.after(3)


@pytest.fixture
def client_for(wordpress: WordPressSite) -> Iterator[ClientFor]:
    """Makes clients of the real site by login name; `password` replaces the right one."""
    clients = []

    def make(
        login: str = "author", password: str | None = None, **options: float
    ) -> WordPressClient:
        secret = wordpress.passwords.get(login, "") if password is None else password
        client = WordPressClient(wordpress.url, login, lambda: secret, **options)  # type: ignore[arg-type]
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def draft(slug: str = "a-slug", **fields: object) -> dict[str, object]:
    return {
        "status": "draft",
        "slug": slug,
        "title": "A title",
        "content": "<p>Text.</p>",
        **fields,
    }


def failure_of(call: Callable[[], object]) -> Failure:
    with pytest.raises(JobFailed) as caught:
        call()
    return caught.value.failure


def posts_at(site: WordPressSite) -> int:
    """How many posts the site holds in all, seen by its administrator."""
    client = WordPressClient(site.url, "administrator", lambda: site.passwords["administrator"])
    found = client._find_posts({"search": "A title", "status": "any"}, soon())
    client.close()
    return len(found.posts)


# who we are


def test_the_account_tells_roles_and_capabilities(client_for: ClientFor) -> None:
    account = client_for("author").who_am_i(soon())
    assert account.roles == ("author",)
    assert "publish_posts" in account.capabilities
    assert "publish_posts" not in client_for("contributor").who_am_i(soon()).capabilities


def test_the_application_password_in_use_can_be_looked_at(client_for: ClientFor) -> None:
    found = client_for().application_password(soon())
    assert (found.name, bool(found.created)) == ("workbench", True)


@pytest.mark.parametrize("variant", ["", "asks_early_who_is_logged_in", "no_application_passwords"])
def test_a_wrong_password_is_a_failed_login_under_whatever_code(
    wordpress: WordPressSite, client_for: ClientFor, variant: str
) -> None:
    wordpress.variants(*[variant] if variant else [])
    client = client_for("author", "zqzq zqzq zqzq zqzq zqzq zqzq")
    for call in (lambda: client.who_am_i(soon()), lambda: client.create_post(draft(), soon())):
        failure = failure_of(call)
        assert (failure.error_class, failure.http_status) == ("wordpress_login_failed", 401)
        assert failure.provider_code
        assert "zqzq" not in failure.message
    wordpress.variants()
    assert posts_at(wordpress) == 0


def test_a_look_up_with_a_wrong_password_is_a_failed_login_though_wordpress_says_400(
    client_for: ClientFor,
) -> None:
    client = client_for("author", "zqzq zqzq zqzq zqzq zqzq zqzq")
    for look_up in (
        lambda: client.posts_by_slug(["a-slug"], ["any"], soon()),
        lambda: client.posts_that_hold("text", soon()),
        lambda: client.post(1, soon()),
    ):
        assert failure_of(look_up).error_class == "wordpress_login_failed"


def test_a_look_up_by_a_role_that_may_not_edit_has_lost_its_permission(
    client_for: ClientFor,
) -> None:
    client = client_for("subscriber")
    for look_up in (
        lambda: client.posts_by_slug(["a-slug"], ["any"], soon()),
        lambda: client.post(1, soon()),
    ):
        assert failure_of(look_up).error_class == "wordpress_permission_lost"


def test_a_login_that_the_web_server_drops_is_a_failed_login(
    wordpress: WordPressSite, client_for: ClientFor
) -> None:
    wordpress.fault("strip")
    assert (
        failure_of(lambda: client_for().create_post(draft(), soon())).error_class
        == "wordpress_login_failed"
    )


def test_a_site_without_application_passwords_is_told_to_be_one(
    wordpress: WordPressSite, client_for: ClientFor
) -> None:
    wordpress.variants("no_application_passwords")
    assert (
        "offers no application passwords"
        in failure_of(lambda: client_for().who_am_i(soon())).message
    )


def test_a_rotated_password_is_used_within_the_call_that_was_refused(
    wordpress: WordPressSite,
) -> None:
    answers = iter(["the old password"])
    client = WordPressClient(
        wordpress.url, "author", lambda: next(answers, wordpress.passwords["author"])
    )
    client.site(soon())
    answers = iter(["the old password"])
    assert client.create_post(draft(), soon()).status == "draft"


# permissions and restrictions


def test_a_role_that_may_not_post_has_lost_its_permission(client_for: ClientFor) -> None:
    failure = failure_of(lambda: client_for("subscriber").create_post(draft(), soon()))
    assert (failure.error_class, failure.provider_code) == (
        "wordpress_permission_lost",
        "rest_cannot_create",
    )
    contributor = client_for("contributor")
    post = contributor.create_post(draft(), soon())
    failure = failure_of(
        lambda: contributor.update_post(post.post_id, {"status": "publish"}, soon())
    )
    assert (failure.error_class, failure.provider_code) == (
        "wordpress_permission_lost",
        "rest_cannot_publish",
    )


def test_a_restricted_rest_api_is_off(wordpress: WordPressSite, client_for: ClientFor) -> None:
    wordpress.variants("rest_forbidden")
    assert (
        failure_of(lambda: client_for().create_post(draft(), soon())).error_class
        == "wordpress_rest_off"
    )


def test_an_address_below_which_there_is_no_wordpress_has_its_rest_api_off(
    wordpress: WordPressSite,
) -> None:
    client = WordPressClient(f"{wordpress.url}/no/blog/here", "author", lambda: PASSWORD)
    wordpress.fault("answer", match="/no/blog/here", status=404)
    assert failure_of(lambda: client.who_am_i(soon())).error_class == "wordpress_rest_off"


def test_plain_permalinks_work(wordpress: WordPressSite, client_for: ClientFor) -> None:
    wordpress.variants("plain_permalinks")
    client = client_for()
    assert not client.site(soon()).pretty_addresses
    post = client.create_post(draft(), soon())
    assert client.update_post(post.post_id, {"status": "publish"}, soon()).status == "publish"  # type: ignore[union-attr]
    assert [each.post_id for each in client.posts_by_slug(["a-slug"], ["any"], soon()).posts] == [
        post.post_id
    ]


def test_permalinks_may_change_while_we_run(
    wordpress: WordPressSite, client_for: ClientFor
) -> None:
    client = client_for()
    client.site(soon())
    wordpress.variants("plain_permalinks")
    assert client.posts_by_slug(["a-slug"], ["any"], soon()).posts == ()
    assert client.create_post(draft(), soon()).status == "draft"
    wordpress.variants()
    assert client.create_post(draft("other"), soon()).status == "draft"
    assert posts_at(wordpress) == 2


# categories and tags


@pytest.mark.parametrize(
    ("name", "slug"),
    [("News", "news"), ("  nEWS ", "news"), ("Research & Development", "research-development"), ("research-development", "research-development")],
)  # fmt: skip
def test_a_category_is_found_by_name_or_slug_whatever_its_case(
    client_for: ClientFor, name: str, slug: str
) -> None:
    client = client_for()
    post = client.create_post(draft(categories=[client.category_id(name, soon())]), soon())
    assert post.category_ids == (client.category_id(slug, soon()),)


def test_a_category_made_after_the_list_was_read_is_found(client_for: ClientFor) -> None:
    client, editor = client_for(), client_for("editor")
    assert client.category_id("Podcasts", soon()) is None
    editor._connection.request("POST", "categories", soon(), fields={"name": "Podcasts"})
    assert client.category_id("Podcasts", soon()) is not None


def test_the_list_of_categories_is_asked_for_once(
    wordpress: WordPressSite, client_for: ClientFor
) -> None:
    client = client_for()
    for _ in range(3):
        client.category_id("news", soon())
    assert sum("categories" in request for request in wordpress.requests()) == 1


def test_tags_are_made_or_found_and_never_twice(client_for: ClientFor) -> None:
    made = client_for().tag_ids(["Search", "R&D", "search"], soon())
    assert len(made) == 2
    assert client_for("contributor").tag_ids(["R&D", " search ", ""], soon()) == (made[1], made[0])


# posts


def test_posts_are_found_by_slug_in_every_status_and_in_the_trash_when_asked(
    client_for: ClientFor,
) -> None:
    client = client_for()
    post = client.create_post(draft(), soon())
    assert client.posts_by_slug(["a-slug", "other"], ["any"], soon()).posts == (post,)
    client.trash_post(post.post_id, soon())
    client.trash_post(post.post_id, soon())  # a second time is no failure
    assert client.posts_by_slug(["a-slug", "a-slug__trashed"], ["any"], soon()).posts == ()
    in_trash = client.posts_by_slug(["a-slug__trashed"], ["any", "trash"], soon()).posts
    assert [each.post_id for each in in_trash] == [post.post_id]
    restored = client.update_post(post.post_id, {"status": "draft"}, soon())
    assert restored is not None
    assert (restored.status, restored.slug) == ("draft", "a-slug")


def test_posts_of_other_authors_are_counted_as_hidden(client_for: ClientFor) -> None:
    client_for("second-author").create_post(draft(), soon())
    found = client_for().posts_by_slug(["a-slug"], ["any"], soon())
    assert (found.posts, found.hidden_count) == ((), 1)


def test_a_post_that_does_not_exist_is_none(client_for: ClientFor) -> None:
    client = client_for()
    assert client.post(99_999, soon()) is None
    assert client.update_post(99_999, {"status": "publish"}, soon()) is None
    client.trash_post(99_999, soon())


def test_posts_are_found_by_what_they_hold(client_for: ClientFor) -> None:
    client = client_for()
    post = client.create_post(draft(content="<p>Text.</p><!-- runbook-job:17 -->"), soon())
    client.create_post(draft("other"), soon())
    assert client.posts_that_hold("runbook-job:17", soon()).posts == (post,)


def test_refused_fields_are_named(client_for: ClientFor) -> None:
    failure = failure_of(lambda: client_for().create_post(draft(categories=["News"]), soon()))
    assert failure.error_class == "wordpress_request_refused"
    assert failure.provider_code == "rest_invalid_param"
    assert "categories[0] is not of type integer" in failure.message


def test_warnings_printed_before_the_json_do_no_harm(
    wordpress: WordPressSite, client_for: ClientFor
) -> None:
    wordpress.variants("prints_warning")
    client = client_for()
    post = client.create_post(draft(), soon())
    assert client.who_am_i(soon()).name == "author"
    assert client.posts_by_slug(["a-slug"], ["any"], soon()).posts == (post,)
    assert client.category_id("news", soon())


# the site is away, or its answer is


def test_maintenance_is_a_pause_of_the_length_that_the_site_names(
    wordpress: WordPressSite, client_for: ClientFor
) -> None:
    client = client_for()
    client.site(soon())
    with wordpress.maintenance():
        for call in (lambda: client.who_am_i(soon()), lambda: client.create_post(draft(), soon())):
            failure = failure_of(call)
            assert (failure.error_class, failure.retry_after_seconds) == (
                "wordpress_rate_limited",
                600,
            )
    assert client.create_post(draft(), soon()).status == "draft"


def test_a_plugin_that_crashes_makes_the_site_unavailable(
    wordpress: WordPressSite, client_for: ClientFor
) -> None:
    wordpress.variants("fatal_error")
    assert failure_of(lambda: client_for().who_am_i(soon())).error_class == "wordpress_unavailable"


@pytest.mark.parametrize("lost", [{"status": 504}, {"status": 502}, {"cut": True}, {"seconds": 30}])
def test_a_draft_whose_answer_is_lost_has_an_unknown_outcome(
    wordpress: WordPressSite, client_for: ClientFor, lost: dict[str, object]
) -> None:
    client = client_for()
    client.site(soon())
    wordpress.fault("lost", match=CREATE, times=1, **lost)
    assert (
        failure_of(lambda: client.create_post(draft(), briefly())).error_class
        == "wordpress_outcome_unknown"
    )
    assert sum(request.startswith(CREATE) for request in wordpress.requests()) <= 1
    assert posts_at(wordpress) == 1


@pytest.mark.parametrize(
    ("lost", "error_class"),
    [
        ({"status": 504}, "wordpress_unavailable"),
        ({"cut": True}, "wordpress_unreachable"),
        ({"seconds": 30}, "wordpress_timeout"),
    ],
)
def test_an_update_whose_answer_is_lost_can_be_sent_again(
    wordpress: WordPressSite, client_for: ClientFor, lost: dict[str, object], error_class: str
) -> None:
    client = client_for()
    post_id = client.create_post(draft(), soon()).post_id
    wordpress.fault("lost", match=f"{CREATE}/{post_id}", times=1, **lost)
    failure = failure_of(lambda: client.update_post(post_id, {"status": "publish"}, briefly()))
    assert failure.error_class == error_class
    assert client.update_post(post_id, {"status": "publish"}, soon()).status == "publish"  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_write_names_where_to_and_is_not_followed(
    wordpress: WordPressSite, client_for: ClientFor, status: int
) -> None:
    client = client_for()
    client.site(soon())
    location = "https://www.example.test/wp-json/wp/v2/posts"
    wordpress.fault(
        "answer", match=CREATE, status=status, headers={"Location": f"{location}?key=secret"}
    )
    failure = failure_of(lambda: client.create_post(draft(), soon()))
    assert (failure.error_class, failure.http_status) == ("wordpress_redirected", status)
    assert location in failure.message
    assert "key=secret" not in failure.message
    wordpress.end_fault()
    assert posts_at(wordpress) == 0


# what sites in between answer


def answered(
    status: str, body: bytes = b"<html><title>Sorry</title></html>", *headers: str
) -> Behaviour:
    head = [
        f"HTTP/1.1 {status}",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return after_index(answer("\r\n".join(head).encode() + body))


def json_body(code: str, status: int = 0, **more: object) -> bytes:
    return json.dumps(
        {"code": code, "message": "Said <b>so</b>.", "data": {"status": status, **more}}
    ).encode()


@pytest.mark.parametrize(
    ("behaviour", "read_class", "create_class"),
    [
        (answered("401 X"), "wordpress_login_failed", "wordpress_login_failed"),
        (answered("401 X", json_body("anything")), "wordpress_login_failed", "wordpress_login_failed"),
        (answered("403 X"), "wordpress_rest_off", "wordpress_rest_off"),
        (answered("403 X", json_body("rest_forbidden")), "wordpress_rest_off", "wordpress_rest_off"),
        (answered("403 X", json_body("rest_forbidden_context")), "wordpress_permission_lost", "wordpress_permission_lost"),
        (answered("404 X"), "wordpress_rest_off", "wordpress_rest_off"),
        (answered("404 X", json_body("rest_no_route")), "wordpress_rest_off", "wordpress_rest_off"),
        (answered("406 X"), "wordpress_request_refused", "wordpress_request_refused"),
        (answered("408 X"), "wordpress_timeout", "wordpress_outcome_unknown"),
        (answered("413 X"), "wordpress_request_refused", "wordpress_request_refused"),
        (answered("429 X", b"", "Retry-After: 7"), "wordpress_rate_limited", "wordpress_rate_limited"),
        (answered("500 X"), "wordpress_unavailable", "wordpress_outcome_unknown"),
        (answered("503 X"), "wordpress_unavailable", "wordpress_outcome_unknown"),
        # A cache in front may say so after the site did the work.
        (answered("503 X", b"", "Retry-After: 7"), "wordpress_rate_limited", "wordpress_outcome_unknown"),
        (answered("504 X"), "wordpress_unavailable", "wordpress_outcome_unknown"),
        (answered("200 OK"), "wordpress_answer_unreadable", "wordpress_outcome_unknown"),
        (answered("200 OK", b"[]"), "wordpress_answer_unreadable", "wordpress_outcome_unknown"),
        (answered("201 Created", b"{}"), "wordpress_answer_unreadable", "wordpress_outcome_unknown"),
        (answered("201 Created", b'{"id": "12"}'), "wordpress_answer_unreadable", "wordpress_outcome_unknown"),
        (answered("201 Created", b'{"id": 12, "cut'), "wordpress_answer_unreadable", "wordpress_outcome_unknown"),
        (after_index(answer(b"HTTP/1.1 201 Crea")), "wordpress_timeout", "wordpress_outcome_unknown"),
        (after_index(reset), "wordpress_unreachable", "wordpress_outcome_unknown"),
        (after_index(stall_after_request), "wordpress_timeout", "wordpress_outcome_unknown"),
        (after_index(drip_headers), "wordpress_timeout", "wordpress_outcome_unknown"),
        (after_index(drip_body), "wordpress_timeout", "wordpress_outcome_unknown"),
        (after_index(endless), "wordpress_answer_unreadable", "wordpress_outcome_unknown"),
    ],
)  # fmt: skip
def test_each_answer_ends_in_its_class_and_only_a_create_is_ever_unknown(
    behaviour: Behaviour, read_class: str, create_class: str
) -> None:
    with FaultServer(behaviour) as server:
        client = WordPressClient(server.url, "author", lambda: PASSWORD, deadline_seconds=0.5)
        read = failure_of(lambda: client.who_am_i(soon()))
        create = failure_of(lambda: client.create_post(draft(), soon()))
    assert (read.error_class, create.error_class) == (read_class, create_class)
    assert (create.stage, create.provider) == ("publish", "wordpress")
    assert sum(request.startswith(b"POST") for request in server.requests) == 1


def test_a_draft_that_could_not_be_sent_is_not_of_unknown_outcome() -> None:
    with BlackHole() as hole:
        for url, error_class in (
            (hole.url, "wordpress_timeout"),
            (f"http://127.0.0.1:{refused_port()}", "wordpress_unreachable"),
        ):
            client = WordPressClient(url, "author", lambda: PASSWORD, deadline_seconds=0.5)
            assert (
                failure_of(lambda c=client: c.create_post(draft(), soon())).error_class
                == error_class
            )  # type: ignore[misc]


def test_retry_after_is_kept_for_all_workers() -> None:
    with FaultServer(answered("429 X", json_body("too_many", 429), "Retry-After: 7")) as server:
        failure = failure_of(
            lambda: WordPressClient(server.url, "author", lambda: PASSWORD).who_am_i(soon())
        )
    assert (failure.retry_after_seconds, failure.provider_code) == (7, "too_many")
    assert failure.message == "GET users/me was answered 429 too_many: Said so."


def test_no_form_of_the_password_is_in_a_failure() -> None:
    login = "YXV0aG9yOmFiY2QgZWZnaCBpamtsIG1ub3AgcXJzdCB1dnd4"
    echoed = json.dumps(
        {
            "code": "echo",
            "message": f"Authorization: Basic {login} {PASSWORD} {PASSWORD.replace(' ', '')}",
        }
    )
    with FaultServer(answered("400 X", echoed.encode())) as server:
        failure = failure_of(
            lambda: WordPressClient(server.url, "author", lambda: PASSWORD).who_am_i(soon())
        )
    for form in (login, "abcd", "uvwx"):
        assert form not in failure.message


def test_categories_are_read_page_by_page() -> None:
    names = [f"Category {number}" for number in range(1, 251)]

    def serve(server: FaultServer, connection: object) -> None:
        while head := server.read_request(connection):  # type: ignore[arg-type]
            query = parse_qs(urlsplit(head.split(b" ")[1].decode()).query)
            page, size = int(query["page"][0]), int(query["per_page"][0])
            items = [
                {"id": n, "parent": 0, "name": names[n - 1], "slug": f"c{n}"} for n in range(1, 251)
            ]
            body = json.dumps(items[(page - 1) * size : page * size]).encode()
            connection.sendall(  # type: ignore[attr-defined]
                b"HTTP/1.1 200 OK\r\nX-WP-TotalPages: 3\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body
            )

    with FaultServer(after_index(serve)) as server:
        client = WordPressClient(server.url, "author", lambda: PASSWORD)
        assert client.category_id("category 250", soon()) == 250
        assert client.category_id("c7", soon()) == 7
        assert len(server.requests) == 3
