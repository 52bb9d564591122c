"""A client of WordPress's REST API for one user with an application password.

Each call has a total deadline, follows no redirect, and ends in an answer that was checked or in a
`JobFailed` whose class says what went wrong. Only `create_post` can leave an unknown outcome; every
other request may be sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.model import Post
from runbook_lib.pipeline.retry_after import retry_after_seconds
from runbook_lib.pipeline.transport import Answer, ExchangeFailed
from runbook_lib.pipeline.wordpress_answers import (
    code_of,
    header_number,
    is_id,
    no_answer,
    read_items,
    read_json,
    read_object,
)
from runbook_lib.pipeline.wordpress_connection import Site, WordPressConnection
from runbook_lib.pipeline.wordpress_terms import ITEMS_A_PAGE, WordPressTerms

_ABSENT = "rest_post_invalid_id"


@dataclass(frozen=True)
class Account:
    """Who WordPress takes us for."""

    user_id: int
    name: str
    roles: tuple[str, ...]
    capabilities: frozenset[str]


@dataclass(frozen=True)
class ApplicationPassword:
    """An application password; times are of the site, None where it says nothing."""

    uuid: str
    name: str
    created: str | None
    last_used: str | None
    last_address: str | None = None


@dataclass(frozen=True)
class FoundPosts:
    """What a look-up found; `hidden_count` posts exist that this user may not see."""

    posts: tuple[Post, ...]
    hidden_count: int


class WordPressClient:
    """One site and one user; threads may share it.

    `password` is asked for each request, so that a rotated application password is used at once; on a
    refused login it is asked again. `deadline_seconds` bounds each single request, and so does the
    `Deadline` that every method takes. Every method raises `JobFailed`.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: Callable[[], str],
        *,
        deadline_seconds: float = 30,
        connections: int = 10,
        cache_seconds: float = 300,
    ) -> None:
        self._connection = WordPressConnection(
            url, user, password, deadline_seconds=deadline_seconds, connections=connections
        )
        self._terms = WordPressTerms(self._connection, cache_seconds=cache_seconds)
        self._cache_seconds = cache_seconds
        self._account: tuple[float, Account] | None = None
        self.category_id = self._terms.category_id
        self.tag_ids = self._terms.tag_ids

    @property
    def user(self) -> str:
        return self._connection.user

    def close(self) -> None:
        self._connection.close()

    def forget_cached(self) -> None:
        """Forgets categories, tags and the account, so that the next call asks the site."""
        self._terms.forget()
        self._account = None

    def site(self, deadline: Deadline) -> Site:
        """Where the REST API is, asked anew."""
        try:
            return self._connection.site(deadline)
        except ExchangeFailed as error:
            raise JobFailed(no_answer(error, "GET the REST index")) from None

    def who_am_i(self, deadline: Deadline) -> Account:
        """The user, its roles and capabilities: the only sound check of a password, since a public
        read succeeds with a wrong one."""
        query = {"context": "edit", "_fields": "id,name,roles,capabilities"}
        answer = self._connection.request("GET", "users/me", deadline, query=query)
        found = read_object(answer)
        if answer.status != 200 or not found or not is_id(found.get("id")):
            raise JobFailed(self._connection.refusal(answer, "GET users/me"))
        granted = found.get("capabilities")
        capabilities = granted if isinstance(granted, dict) else {}
        account = Account(
            user_id=found["id"],
            name=str(found.get("name", "")),
            roles=tuple(str(role) for role in found.get("roles") or ()),
            capabilities=frozenset(name for name, allowed in capabilities.items() if allowed),
        )
        self._account = (time.monotonic() + self._cache_seconds, account)
        return account

    def account(self, deadline: Deadline) -> Account:
        """As `who_am_i`, remembered for a while."""
        cached = self._account
        return cached[1] if cached and cached[0] > time.monotonic() else self.who_am_i(deadline)

    def application_password(self, deadline: Deadline) -> ApplicationPassword:
        """The application password in use, for reports on its age."""
        path = "users/me/application-passwords/introspect"
        answer = self._connection.request("GET", path, deadline)
        found = read_object(answer)
        if answer.status != 200 or not found or "uuid" not in found:
            raise JobFailed(self._connection.refusal(answer, f"GET {path}"))
        return _application_password(found)

    def application_passwords(self, deadline: Deadline) -> tuple[ApplicationPassword, ...]:
        """All application passwords of our user, whoever uses them."""
        path = "users/me/application-passwords"
        answer = self._connection.request("GET", path, deadline)
        try:
            found = read_json(answer)
        except (ValueError, RecursionError):
            found = None
        if answer.status != 200 or not isinstance(found, list):
            raise JobFailed(self._connection.refusal(answer, f"GET {path}"))
        known = [each for each in found if isinstance(each, dict) and "uuid" in each]
        return tuple(_application_password(each) for each in known)

    def make_application_password(self, name: str, deadline: Deadline) -> str:
        """A new application password of this user, beside those that there are."""
        path = "users/me/application-passwords"
        try:
            answer = self._connection.request_once(path, deadline, {"name": name})
        except ExchangeFailed as error:
            raise JobFailed(no_answer(error, f"POST {path}")) from None
        found = read_object(answer)
        if answer.status != 201 or not found or not isinstance(found.get("password"), str):
            raise JobFailed(self._connection.refusal(answer, f"POST {path}"))
        return str(found["password"])

    def revoke_application_password(self, uuid: str, deadline: Deadline) -> None:
        """Takes one of this user's application passwords away; may be sent again."""
        path = f"users/me/application-passwords/{uuid}"
        answer = self._connection.request("DELETE", path, deadline)
        if answer.status not in (200, 404):
            raise JobFailed(self._connection.refusal(answer, f"DELETE {path}"))

    def posts_by_slug(
        self, slugs: Sequence[str], statuses: Sequence[str], deadline: Deadline
    ) -> FoundPosts:
        """The posts under any of these slugs; status `any` is every status but `trash`."""
        return self._find_posts({"slug": ",".join(slugs), "status": ",".join(statuses)}, deadline)

    def posts_by_id(self, post_ids: Sequence[int], deadline: Deadline) -> tuple[Post, ...]:
        """Up to a hundred posts by their ids, in whatever status, without their content; those that do
        not exist or that this user may not see are left out."""
        if not post_ids:
            return ()
        query = {
            "include": ",".join(map(str, post_ids)),
            "status": "any,trash",
            "_fields": "id,status,slug,link,author,title,categories,tags",
        }
        return self._find_posts(query, deadline).posts

    def posts_since(
        self, moment: datetime, page: int, deadline: Deadline
    ) -> tuple[tuple[Post, ...], int]:
        """A page of the posts that readers see or will see, dated at or after `moment`, with their content,
        and how many pages there are. In the order of their ids, so that new ones only come at the end.

        Posts of other authors are left out where our user may not edit them.
        """
        query = {
            "after": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "status": "publish,future",
            "orderby": "id",
            "order": "asc",
            "page": page,
            "per_page": ITEMS_A_PAGE,
            "context": "edit",
            "_fields": "id,status,slug,link,author,title,content,categories,tags",
        }
        answer = self._connection.request("GET", "posts", deadline, query=query)
        items = read_items(answer)
        if items is None:
            raise JobFailed(self._connection.refusal(answer, "GET posts"))
        return tuple(_post(each) for each in items), header_number(answer, "X-WP-TotalPages")

    def posts_that_hold(self, text: str, deadline: Deadline) -> FoundPosts:
        """The posts outside the trash whose content holds a text. Slow on a large site."""
        found = self._find_posts({"search": text, "status": "any"}, deadline)
        return replace(found, posts=tuple(post for post in found.posts if text in post.content))

    def post(self, post_id: int, deadline: Deadline) -> Post | None:
        """One post, in whatever status; None when it does not exist."""
        answer = self._connection.request(
            "GET", f"posts/{post_id}", deadline, query={"context": "edit"}
        )
        return self._read_post(answer, f"GET posts/{post_id}")

    def create_post(self, fields: Mapping[str, Any], deadline: Deadline) -> Post:
        """Makes a post. Class `wordpress_outcome_unknown` when it may exist although no answer says so."""
        try:
            answer = self._connection.request_once("posts", deadline, fields)
        except ExchangeFailed as error:
            failure = no_answer(error, "POST posts")
            if error.sent:
                failure = replace(failure, error_class="wordpress_outcome_unknown")
            raise JobFailed(failure) from None
        found = read_object(answer)
        if answer.status == 201 and found and is_id(found.get("id")):
            return _post(found)
        failure = self._connection.refusal(answer, "POST posts")
        if not _nothing_was_made(answer):
            failure = replace(failure, error_class="wordpress_outcome_unknown")
        raise JobFailed(failure)

    def update_post(
        self, post_id: int, fields: Mapping[str, Any], deadline: Deadline
    ) -> Post | None:
        """Changes a post; may be sent again. None when the post does not exist.

        A status brings a post back from the trash; its slug gets a suffix if it is taken by then.
        """
        answer = self._connection.request("POST", f"posts/{post_id}", deadline, fields=fields)
        return self._read_post(answer, f"POST posts/{post_id}")

    def trash_post(self, post_id: int, deadline: Deadline) -> None:
        """Moves a post to the trash, from where a person can restore it; never deletes it for good.

        A post that is in the trash already, or does not exist, is as it should be.
        """
        answer = self._connection.request("DELETE", f"posts/{post_id}", deadline)
        if code_of(answer) in ("rest_already_trashed", _ABSENT):
            return
        found = read_object(answer)
        if answer.status != 200 or not found or not is_id(found.get("id")):
            raise JobFailed(self._connection.refusal(answer, f"DELETE posts/{post_id}"))

    def _find_posts(self, query: Mapping[str, Any], deadline: Deadline) -> FoundPosts:
        query = {**query, "context": "edit", "per_page": ITEMS_A_PAGE}
        answer = self._connection.request("GET", "posts", deadline, query=query)
        items = read_items(answer)
        if items is None:
            raise JobFailed(self._connection.refusal(answer, "GET posts"))
        # WordPress counts posts of other authors and leaves them out of the list.
        hidden_count = max(0, header_number(answer, "X-WP-Total") - len(items))
        return FoundPosts(tuple(_post(each) for each in items), hidden_count)

    def _read_post(self, answer: Answer, request: str) -> Post | None:
        if answer.status == 404 and code_of(answer) == _ABSENT:
            return None
        found = read_object(answer)
        if answer.status != 200 or not found or not is_id(found.get("id")):
            raise JobFailed(self._connection.refusal(answer, request))
        return _post(found)


def _application_password(found: Mapping[str, Any]) -> ApplicationPassword:
    return ApplicationPassword(
        str(found["uuid"]),
        str(found.get("name", "")),
        found.get("created"),
        found.get("last_used"),
        found.get("last_ip"),
    )


def _nothing_was_made(answer: Answer) -> bool:
    # A 5xx may come from a proxy after WordPress has done its work, with Retry-After or without. Only
    # WordPress's own maintenance answer is surely given before any work.
    if answer.status in (408, 425, 499):
        return False
    maintenance = (
        answer.status == 503
        and code_of(answer) == "wp_die"
        and retry_after_seconds(answer.headers) is not None
    )
    return 300 <= answer.status < 500 or maintenance


def _post(found: Mapping[str, Any]) -> Post:
    author_id = found.get("author")
    return Post(
        post_id=found["id"],
        status=_text(found, "status"),
        slug=_text(found, "slug"),
        url=_text(found, "link"),
        author_id=author_id if is_id(author_id) else 0,
        category_ids=_ids(found, "categories"),
        tag_ids=_ids(found, "tags"),
        title=_text(found, "title"),
        content=_text(found, "content"),
    )


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if isinstance(value, Mapping):
        value = value.get("raw", value.get("rendered"))
    return value if isinstance(value, str) else ""


def _ids(found: Mapping[str, Any], name: str) -> tuple[int, ...]:
    value = found.get(name)
    return tuple(each for each in value if is_id(each)) if isinstance(value, list) else ()
