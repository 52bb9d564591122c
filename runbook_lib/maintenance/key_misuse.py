"""Signs that somebody else uses a credential of ours: asked of the provider, the site and the server."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.credentials.staging import PLACES, Waiting
from runbook_lib.credentials.store import Credentials
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.health.context import Context
from runbook_lib.health.sources import Sources
from runbook_lib.health.survey import survey
from runbook_lib.maintenance.secret_tests import wordpress_client
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.wordpress import ApplicationPassword
from runbook_lib.policy import load_policy
from runbook_lib.settings import Settings

SECONDS = 30.0
MOST_PAGES = 20
# Our own programs name themselves so; what else logs in with our role is somebody's.
OUR_PROGRAMS = ("runbook", "ipykernel")
_MARKER = re.compile(r"<!-- runbook-job:[0-9a-f-]{36} -->")


def signs_of_misuse(
    settings: Settings, sources: Sources, name: str, since_hours: int
) -> tuple[Check, ...]:
    """What can be seen of a credential's use by others. Only reads; what cannot be asked says so."""
    asking = {
        "OPENAI_API_KEY": _openai,
        "OPENAI_ADMIN_KEY": _openai,
        "WORDPRESS_APP_PASSWORD": _wordpress,
        "DATABASE_URL": _sessions,
    }
    try:
        return tuple(asking[name](settings, sources, since_hours))
    except (RunbookError, JobFailed, psycopg2.Error) as error:
        words = (
            error.failure.message if isinstance(error, JobFailed) else str(error).splitlines()[0]
        )
        return (Check("misuse.asked", "not_enough_data", f"It could not be looked for: {one_line(words, 300)}"),)  # fmt: skip


def _openai(settings: Settings, sources: Sources, since_hours: int) -> Iterable[Check]:
    """Usage of the account beside our own, which only an admin key may ask."""
    if "openai" in settings.sandboxed():
        yield _sandboxed("OpenAI")
        return
    context = Context(settings, load_policy(settings), sources)
    yield from survey(context, only=["openai.usage", "openai.costs"], deadline_seconds=SECONDS).checks  # fmt: skip


def _wordpress(settings: Settings, sources: Sources, since_hours: int) -> Iterable[Check]:
    if "wordpress" in settings.sandboxed():
        yield _sandboxed("WordPress")
        return
    password = Credentials(settings).credential("WORDPRESS_APP_PASSWORD").get_secret_value()
    deadline = Deadline.after(SECONDS)
    with wordpress_client(settings, password) as client:
        known = {
            client.application_password(deadline).uuid,
            *_waiting_passwords(settings, deadline),
        }
        yield _application_passwords(client.application_passwords(deadline), known)
        account = client.who_am_i(deadline)
        since = datetime.now(UTC) - timedelta(hours=since_hours)
        page, pages, found = 1, 1, []
        while page <= min(pages, MOST_PAGES):
            posts, pages = client.posts_since(since, page, deadline)
            found += [post for post in posts if post.author_id == account.user_id]
            page += 1
    foreign = [post for post in found if not _MARKER.search(post.content)]
    yield Check(
        "misuse.posts", "critical" if foreign else "ok",
        f"In {since_hours} hours {account.name} published {len(found)} posts, {len(foreign)} of them without the mark of our jobs"
        + (f": {', '.join(post.url for post in foreign[:5])}." if foreign else "."),
        len(foreign), "posts", 0, "GET posts?after",
        "that nothing was deleted, and no draft was left" if not foreign else "that they are a thief's: a person may use the same account",
        "Look at these posts. If nobody of yours made them, take them off the site and keep their addresses as evidence." if foreign else None,
        details={"posts": [{"post_id": post.post_id, "url": post.url} for post in foreign[:50]]},
    )  # fmt: skip


def _waiting_passwords(settings: Settings, deadline: Deadline) -> Iterable[str]:
    """Those of a rotation that is under way: the staged one, and the one that it replaced."""
    waiting = Waiting(settings.runbook_home)
    for place in PLACES:
        kept = waiting.find(place, "WORDPRESS_APP_PASSWORD")
        if kept is None:
            continue
        try:
            with wordpress_client(settings, kept.value) as client:
                yield client.application_password(deadline).uuid
        except JobFailed:
            continue  # it is dead, so it is not in the list either


def _application_passwords(found: Iterable[ApplicationPassword], known: Collection[str]) -> Check:
    others = [each for each in found if each.uuid not in known]
    named = "; ".join(
        f"{one_line(each.name, 60)!r} made {each.created}, last used {each.last_used or 'never'} from {each.last_address or 'nowhere'}"
        for each in others[:5]
    )
    return Check(
        "misuse.application_passwords", "warning" if others else "ok",
        f"The account has {len(others)} application passwords beside the one in use{': ' + named if named else ''}.",
        len(others), "passwords", 0, "GET users/me/application-passwords",
        next="Revoke each that nobody can name: whoever had the account may have made one for later." if others else None,
    )  # fmt: skip


def _sessions(settings: Settings, sources: Sources, since_hours: int) -> Iterable[Check]:
    statement = load("provider_errors")["sessions"]
    with sources.pipeline.transaction(read_only=True) as transaction:
        rows = transaction.rows(statement)
    strange = [row for row in rows if not row.program.startswith(OUR_PROGRAMS)]
    named = "; ".join(f"{row.program} from {row.came_from}, {row.sessions} since {row.since:%Y-%m-%d %H:%M} UTC" for row in strange[:5])  # fmt: skip
    yield Check(
        "misuse.sessions", "warning" if strange else "ok",
        f"{sum(row.sessions for row in rows)} sessions of this role are open; of programs that are not ours: {named or 'none'}.",
        len(strange), "programs", 0, statement.source,
        "who came and went before: the server's log tells, if it logs connections",
        "Ask whose they are. If nobody's: end them after the password was changed, since sessions outlive it." if strange else None,
    )  # fmt: skip


def _sandboxed(provider: str) -> Check:
    return Check("misuse.asked", "ok", f"The sandbox stands in for {provider}: its key opens nothing outside.", source="settings")  # fmt: skip
