"""WordPress: reached, its REST API found, the login good, the role sufficient, the categories there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from runbook_lib.credentials.masking import one_line
from runbook_lib.deadlines import Deadline
from runbook_lib.health.checks import Check
from runbook_lib.health.probes import Probe
from runbook_lib.health.probes.network import reach_web, response_time
from runbook_lib.pipeline.failures import FAILURE_CLASSES, JobFailed
from runbook_lib.pipeline.transport import ExchangeFailed, Transport
from runbook_lib.pipeline.wordpress import WordPressClient

ANSWER_SECONDS = 10.0
_INDEX = "GET /wp-json/, GET /?rest_route=/"
NEEDED_CAPABILITIES = ("edit_posts", "publish_posts")
_LOGIN_ADVICE = (
    "Check in this order: WORDPRESS_USER is the login name; WORDPRESS_APP_PASSWORD is an application password "
    "of that user (Users → Profile → Application Passwords), not the login password, and was not revoked; the web "
    "server passes the Authorization header on (Apache with CGI or FastCGI drops it)."
)
_REST_LINK = re.compile(r'<([^>]+)>\s*;\s*rel="https://api\.w\.org/"')


def probe_wordpress(
    url: str,
    user: str,
    app_password: Callable[[], str],
    *,
    post_status: str = "publish",
    fallback_category: str | None = None,
    patience_seconds: float = ANSWER_SECONDS,
    slow_seconds: float | None = None,
    missed_categories: Callable[[], Sequence[str]] | None = None,
) -> Probe:
    """All steps for one site and user; reads only.

    `missed_categories` gives, asked last, the categories that jobs ended for lack of: whether they are there now.
    """
    if not (yield from reach_web("wordpress", url, "WORDPRESS_URL", min(5.0, patience_seconds))):
        return
    client = WordPressClient(url, user, app_password, deadline_seconds=patience_seconds)
    try:
        started = time.monotonic()
        yield from _find_rest_api(client, url, patience_seconds)
        yield response_time("wordpress", time.monotonic() - started, slow_seconds, _INDEX)
        yield from _log_in(client, user, post_status)
        yield from _categories(client, fallback_category)
        yield _password_age(client)
        if missed_categories is not None:
            yield from _missed_categories(client, missed_categories())
    except _Stopped:
        return
    finally:
        client.close()


class _Stopped(Exception):
    """The steps after this one would mean nothing."""


def _within() -> Deadline:
    return Deadline.after(ANSWER_SECONDS)


def _find_rest_api(client: WordPressClient, url: str, patience_seconds: float) -> Probe:
    name, source = "wordpress.rest_api", _INDEX
    try:
        site = client.site(_within())
    except JobFailed as error:
        failure = error.failure
        meaning = None
        if failure.error_class == "wordpress_redirected":
            meaning = "The site sends requests on to another address; an article sent there would be lost."
        elif failure.error_class == "wordpress_login_failed" and failure.provider_code is None:
            meaning = "Something that is not WordPress asks for a login here: another program, or a lock in front of the site."
        advice = _right_address(url, failure.error_class)
        if meaning and not advice:
            advice = "Check WORDPRESS_URL, and what stands in front of the site."
        yield _from_failure(
            name, error, source, meaning=meaning, advice=advice, patience_seconds=patience_seconds
        )
        if (failure.http_status or 0) >= 500:
            yield from _front_page(url)
        raise _Stopped from None
    way = "under /wp-json" if site.pretty_addresses else "under /?rest_route= (plain permalinks)"
    yield Check(
        name, "ok", f"The REST API of {site.name!r} answers {way}.", value=site.name, source=source,
        details={"pretty_addresses": site.pretty_addresses},
    )  # fmt: skip
    if site.application_passwords is False:
        yield Check(
            "wordpress.application_passwords",
            "critical",
            "The site offers no application passwords.",
            source=source,
            next="They need https, and no plugin may disable them (wp_is_application_passwords_available).",
        )


def _front_page(url: str) -> Probe:
    """Whether readers see the site where its REST API answers with a server error."""
    transport = Transport(connections=1)
    try:
        page = transport.exchange(
            "GET", f"{url}/", deadline=_within(), headers={"User-Agent": "runbook-workbench"}
        )
    except ExchangeFailed:
        return
    finally:
        transport.close()
    down = page.status >= 500
    yield Check(
        "wordpress.front_page", "critical" if down else "ok",
        f"The front page is answered {page.status}{': readers see no site either.' if down else '.'}",
        page.status, source="GET /", details={"http_status": page.status},
    )  # fmt: skip


def _right_address(url: str, error_class: str) -> str | None:
    """Where the site says that it, or its REST API, really is."""
    if error_class not in ("wordpress_redirected", "wordpress_rest_off"):
        return None
    transport = Transport(connections=1)
    try:
        page = transport.exchange(
            "GET", f"{url}/", deadline=_within(), headers={"User-Agent": "runbook-workbench"}
        )
        location = page.headers.get("Location", "")
        if not location:
            index = transport.exchange(
                "GET", f"{url}/wp-json/", deadline=_within(), headers={"Accept": "application/json"}
            )
            location = index.headers.get("Location", "")
    except ExchangeFailed:
        return None
    finally:
        transport.close()
    if found := _REST_LINK.search(page.headers.get("Link", "")):
        there = found[1].split("/wp-json")[0].split("/?rest_route")[0].rstrip("/")
        if there != url:
            return f"The front page says where the REST API is: set WORDPRESS_URL={there}"
    if location.startswith(("http://", "https://")):
        target = urlsplit(location)
        return f"Set WORDPRESS_URL={target.scheme}://{target.netloc}{target.path.split('/wp-json')[0].rstrip('/')}"
    return None


def _log_in(client: WordPressClient, user: str, post_status: str) -> Probe:
    name, source = "wordpress.login", "GET users/me?context=edit"
    try:
        account = client.who_am_i(_within())
    except JobFailed as error:
        refused = error.failure.error_class == "wordpress_login_failed"
        yield _from_failure(name, error, source, advice=_LOGIN_ADVICE if refused else None)
        raise _Stopped from None
    roles = ", ".join(account.roles) or "no role"
    yield Check(
        name,
        "ok",
        f"Logged in as {account.name} ({user}): {roles}.",
        value=list(account.roles),
        source=source,
    )
    needed = NEEDED_CAPABILITIES if post_status == "publish" else NEEDED_CAPABILITIES[:1]
    missing = [each for each in needed if each not in account.capabilities]
    yield Check(
        "wordpress.permission",
        "critical" if missing else "ok",
        f"{account.name} may not {' and may not '.join(_in_words(each) for each in missing)}."
        if missing
        else f"{account.name} may {' and '.join(_in_words(each) for each in needed)}.",
        missing or sorted(needed),
        source=source,
        next="Give the user the role Author or Editor." if missing else None,
    )


def _in_words(capability: str) -> str:
    return {"edit_posts": "write posts", "publish_posts": "publish posts"}[capability]


def _categories(client: WordPressClient, fallback: str | None) -> Probe:
    name, source = "wordpress.categories", "GET categories"
    try:
        found = client.category_id(fallback or "uncategorized", _within())
    except JobFailed as error:
        yield _from_failure(name, error, source)
        return
    if fallback is None:
        yield Check(
            name,
            "ok",
            "Categories can be read. RUNBOOK_FALLBACK_CATEGORY is not set: a job with a category that the site "
            "does not have ends in error.",
            source=source,
        )
        return
    yield Check(
        name,
        "ok" if found else "critical",
        f"The fallback category {fallback!r} is there."
        if found
        else f"The site has no category {fallback!r}.",
        found,
        source=source,
        next=None if found else "Make the category, or correct RUNBOOK_FALLBACK_CATEGORY.",
    )


def _missed_categories(client: WordPressClient, names: Sequence[str]) -> Probe:
    name, source = "wordpress.missed_categories", "GET categories"
    try:
        absent = [each for each in names if client.category_id(each, _within()) is None]
    except JobFailed as error:
        yield _from_failure(name, error, source)
        return
    told = ", ".join(repr(one_line(each, 80)) for each in absent)
    yield Check(
        name,
        "critical" if absent else "ok",
        f"Jobs ended within a day because the site has no category {told}, and it still has none."
        if absent
        else "No category that jobs ended for lack of is missing now.",
        len(absent),
        "categories",
        0,
        source,
        next="Make the category, or give its jobs another: `runbook changes plan jobs.use_category -p missing=…`."
        if absent
        else None,
        details={"absent": [one_line(each, 80) for each in absent]},
    )


def _password_age(client: WordPressClient) -> Check:
    name, source = "wordpress.application_password", "GET users/me/application-passwords/introspect"
    try:
        found = client.application_password(_within())
    except JobFailed as error:
        return Check(
            name,
            "not_enough_data",
            f"The site does not say how old the password is: {error.failure.message}",
            source=source,
        )
    days = _days_since(found.created)
    age = "of unknown age" if days is None else f"{days} days old"
    used = f"last used {found.last_used}" if found.last_used else "never used before"
    return Check(
        name,
        "ok",
        f"The application password {found.name!r} is {age}, {used}.",
        days,
        "days",
        source=source,
        does_not_prove="that no other password is in use: this one was just used by this look",
        details={"created": found.created, "last_used": found.last_used},
    )


def _days_since(moment: str | None) -> int | None:
    try:
        created = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    return max(0, (datetime.now(UTC) - created.replace(tzinfo=created.tzinfo or UTC)).days)


def _from_failure(
    name: str,
    error: JobFailed,
    source: str,
    *,
    meaning: str | None = None,
    advice: str | None = None,
    patience_seconds: float = ANSWER_SECONDS,
) -> Check:
    known = FAILURE_CLASSES[error.failure.error_class]
    # The catalogue's advice ends with the command for a running worker; nothing is paused here.
    first = known.advice.split(", then `runbook resume")[0].rstrip(".") + "."
    said = f"{meaning or known.meaning} {error.failure.message}"
    return Check(
        name,
        "critical",
        said.replace("within the deadline", f"within {patience_seconds:g} s"),
        error.failure.http_status,
        source=source,
        next=advice or first,
        details={
            "error_class": error.failure.error_class,
            "http_status": error.failure.http_status,
            "provider_code": error.failure.provider_code,
        },
    )
