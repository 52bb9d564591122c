"""Whether a value is right: asked of the provider itself, at no cost, before anybody depends on it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import psycopg2

from runbook_lib.database.addresses import same_database
from runbook_lib.database.connection import Database, normalise_url
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import ConfigurationError, CouldNotBeDone, DatabaseUnreachable, RunbookError
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.openai_account import costs_by_day
from runbook_lib.health.probes.openai import probe_openai
from runbook_lib.health.probes.wordpress import probe_wordpress
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.providers import OPENAI_ADDRESS
from runbook_lib.pipeline.transport import ExchangeFailed, Transport
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.settings import Settings

# accepted, refused (401, or the database's own words for it), or nobody could be asked
# Answers about the value itself; the others say that nobody could be asked.
ABOUT_THE_VALUE = ("openai.key", "openai.model", "openai.quota", "openai.admin_key", "wordpress.login", "wordpress.permission", "database.login")  # fmt: skip
Answer = Literal["accepted", "refused", "unknown"]
ANSWER_SECONDS = 10.0
_REFUSED_BY_THE_SERVER = re.compile(
    r'password authentication failed|is not permitted to log in|role "[^"]*" does not exist'
)


def tested(settings: Settings, name: str, value: str) -> Check:
    """Tests a value where it is to be used. `ok`: it may be activated; a warning says what it may not do."""
    testing = {
        "OPENAI_API_KEY": _openai,
        "OPENAI_ADMIN_KEY": _openai_admin,
        "WORDPRESS_APP_PASSWORD": _wordpress,
        "DATABASE_URL": _database,
    }
    found = testing[name](settings, value)
    return replace(found, name=f"secrets.{name.lower()}", details={"step": found.name})


def answer_to(settings: Settings, name: str, value: str) -> Answer:
    """Whether the provider still takes a value: after it was revoked it must not."""
    asking = {
        "OPENAI_API_KEY": _openai_answers,
        "OPENAI_ADMIN_KEY": _openai_answers,
        "WORDPRESS_APP_PASSWORD": _wordpress_answers,
        "DATABASE_URL": _database_answers,
    }
    return asking[name](settings, value)


def openai_address(settings: Settings) -> str:
    return settings.openai_base_url or OPENAI_ADDRESS


@contextmanager
def wordpress_client(settings: Settings, password: str) -> Iterator[WordPressClient]:
    """The site of the settings, as a user with this password. Raises `ConfigurationError`."""
    if not settings.wordpress_url or not settings.wordpress_user:
        raise ConfigurationError("WORDPRESS_URL and WORDPRESS_USER are not set.")
    client = WordPressClient(
        settings.wordpress_url,
        settings.wordpress_user,
        lambda: password,
        deadline_seconds=ANSWER_SECONDS,
    )
    try:
        yield client
    finally:
        client.close()


def _openai(settings: Settings, value: str) -> Check:
    checks = list(probe_openai(openai_address(settings), lambda: value, settings.openai_model))
    return _verdict_of(
        checks, "openai.key", "OpenAI accepts it, and it has the model. No token was used."
    )


def _openai_admin(settings: Settings, value: str) -> Check:
    name, source = "openai.admin_key", "GET organization/costs"
    try:
        costs_by_day(
            openai_address(settings), lambda: value, int(time.time()) - 86_400, Deadline.after(ANSWER_SECONDS)
        )  # fmt: skip
    except CouldNotBeDone as error:
        return Check(name, "critical", str(error), source=source, next="Make the key again, as an admin key.")  # fmt: skip
    return Check(name, "ok", "OpenAI tells costs for it.", source=source)


def _wordpress(settings: Settings, value: str) -> Check:
    if not settings.wordpress_url or not settings.wordpress_user:
        return Check("wordpress.login", "critical", "WORDPRESS_URL and WORDPRESS_USER are not set.")
    checks = list(
        probe_wordpress(
            settings.wordpress_url,
            settings.wordpress_user,
            lambda: value,
            post_status=settings.runbook_post_status,
        )
    )
    return _verdict_of(
        checks, "wordpress.permission", "The site takes it, and its user may publish. Nothing was written."
    )  # fmt: skip


def _verdict_of(checks: Iterable[Check], decisive: str, words: str) -> Check:
    """The worst of the checks; without the one that decides, nothing is proved."""
    checks = list(checks)
    verdict = worst_verdict(checks)
    worst = next((check for check in checks if check.verdict == verdict), None)
    if worst is not None and verdict in ("warning", "critical"):
        return worst
    if not any(check.name == decisive for check in checks):
        return Check(decisive, "critical", "It could not be tested, so it is not taken for right.")
    source = next(check.source for check in checks if check.name == decisive)
    return Check(decisive, "ok", words, source=source)


def _database(settings: Settings, value: str) -> Check:
    name, source = "database.login", "a new connection"
    present = settings.database_url.get_secret_value() if settings.database_url else None
    url = normalise_url(value)
    if present is not None and not same_database(url, normalise_url(present)):
        return Check(
            name, "critical", "The address names another host, port, database or option than the present one.",
            source=source,
            next="A rotation changes user and password only. To move, stop the workers, change DATABASE_URL, start them.",
        )  # fmt: skip
    try:
        _use(settings, url)
    except (RunbookError, psycopg2.Error) as error:
        return Check(
            name, "critical", str(error).splitlines()[0], source=source,
            next="Set the password at the server first, or let it be done: `runbook secrets activate DATABASE_URL --set-at-server`.",
        )  # fmt: skip
    return Check(name, "ok", "The server takes it, and the tables are there.", source=source)


def _use(settings: Settings, url: str) -> None:
    from runbook_lib.database import schema

    database = Database(
        url,
        schema=settings.runbook_database_schema,
        deadline_seconds=ANSWER_SECONDS,
        never_writes=settings.attached,
    )
    if settings.attached:
        database.connect().close()
    else:
        schema.require_current(database)


def _openai_answers(settings: Settings, value: str) -> Answer:
    transport = Transport(connections=1)
    try:
        answer = transport.exchange(
            "GET",
            f"{openai_address(settings).rstrip('/')}/models",
            deadline=Deadline.after(ANSWER_SECONDS),
            headers={"Authorization": f"Bearer {value}", "Accept": "application/json"},
        )
    except ExchangeFailed:
        return "unknown"
    finally:
        transport.close()
    if answer.status == 401:
        return "refused"
    return "accepted" if answer.status in (200, 403, 429) else "unknown"


def _wordpress_answers(settings: Settings, value: str) -> Answer:
    with wordpress_client(settings, value) as client:
        try:
            client.who_am_i(Deadline.after(ANSWER_SECONDS))
        except JobFailed as error:
            refused = error.failure.error_class == "wordpress_login_failed"
            return "refused" if refused else "unknown"
    return "accepted"


def _database_answers(settings: Settings, value: str) -> Answer:
    try:
        Database(value).connect().close()
    except DatabaseUnreachable as error:
        return "refused" if _REFUSED_BY_THE_SERVER.search(str(error)) else "unknown"
    return "accepted"
