"""The console's tokens and the application passwords of the site's user: how old, how used, who may read them.

Values are never read for this: a token's age is that of its file.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from runbook_lib.credentials.console_tokens import LINK_SECONDS, SCOPES, Scope, token_file
from runbook_lib.credentials.masking import one_line
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.maintenance.access_records import Part
from runbook_lib.maintenance.published_posts import OpenSite
from runbook_lib.pipeline.wordpress import ApplicationPassword
from runbook_lib.settings import Settings

OLD_DAYS = 180
UNUSED_DAYS = 90
SITE_DEADLINE_SECONDS = 15
_DAY_SECONDS = 86_400


def console_tokens(settings: Settings) -> Part:
    """The two tokens by name: where they come from, their age, and whether others may read the file."""
    rows = [_token_row(settings, scope) for scope in SCOPES]
    links = _open_links(settings)
    open_files = [row["token"] for row in rows if row["others_may_read"]]
    old = [row["token"] for row in rows if (row["age_days"] or 0) > OLD_DAYS]
    told = [f"Read and write token: {', '.join(dict.fromkeys(row['kept'] for row in rows))}; {links} login links wait to be used."]  # fmt: skip
    if old:
        told.append(f"Older than {OLD_DAYS} days: the {' and the '.join(old)} token.")
    if open_files:
        told.append(f"Others on this machine may read the {' and the '.join(open_files)} token.")
    verdict: Verdict = "critical" if open_files else "warning" if old else "ok"
    check = Check(
        "access.console_tokens", verdict, " ".join(told), max((row["age_days"] or 0 for row in rows), default=0),
        "days", OLD_DAYS, "the files in RUNBOOK_HOME/tokens", does_not_prove="who else was given them",
        next="Remove the file, or set another token: a new one is made, and every session ends." if open_files or old else None,
    )  # fmt: skip
    return Part(check, rows)


def _token_row(settings: Settings, scope: Scope) -> dict[str, Any]:
    row: dict[str, Any] = {"token": scope, "scope": "reads" if scope == "read" else "reads and changes", "kept": "as a setting", "age_days": None, "others_may_read": False}  # fmt: skip
    if (settings.runbook_read_token if scope == "read" else settings.runbook_write_token) is not None:  # fmt: skip
        return row
    try:
        found = token_file(settings, scope).stat()
    except OSError:
        return {**row, "kept": "not made yet"}
    age = max(0.0, time.time() - found.st_mtime) / _DAY_SECONDS
    return {**row, "kept": "in a file", "age_days": round(age, 1), "others_may_read": bool(found.st_mode & 0o077)}  # fmt: skip


def _open_links(settings: Settings) -> int:
    count = 0
    try:
        for path in (settings.runbook_home / "tokens" / "logins").iterdir():
            count += path.stat().st_mtime > time.time() - LINK_SECONDS
    except OSError:
        pass
    return count


def application_passwords(open_site: OpenSite) -> Part:
    """All application passwords of our user at the site, and which of them nobody uses."""
    name, source = "access.application_passwords", "users/me/application-passwords"
    try:
        with open_site() as site:
            deadline = Deadline.after(SITE_DEADLINE_SECONDS)
            ours = site.application_password(deadline)
            found = site.application_passwords(deadline)
    except RunbookError as error:
        return Part(Check(name, "not_enough_data", f"The site did not say: {one_line(str(error), 200)}", source=source))  # fmt: skip
    rows = [_password_row(each, each.uuid == ours.uuid) for each in found]
    unused = [row["name"] for row in rows if row["unused"] and not row["in_use_here"]]
    old = [row["name"] for row in rows if row["in_use_here"] and (row["age_days"] or 0) > OLD_DAYS]
    told = [f"{len(rows)} application passwords."]
    if unused:
        told.append(f"Not used for {UNUSED_DAYS} days: {', '.join(unused[:5])}.")
    if old:
        told.append(f"Ours is older than {OLD_DAYS} days.")
    return Part(
        Check(
            name, "warning" if unused or old else "ok", " ".join(told), len(unused), "unused passwords", 0, source,
            does_not_prove="that the addresses of the last use are those of our hosts",
            next="Revoke what nobody uses, in the user's profile at the site." if unused else "Rotate it." if old else None,
        ),
        rows,
    )  # fmt: skip


def _password_row(each: ApplicationPassword, ours: bool) -> dict[str, Any]:
    age, idle = _days_since(each.created), _days_since(each.last_used)
    unused = (idle if idle is not None else age or 0) > UNUSED_DAYS
    return {
        "name": each.name, "in_use_here": ours, "age_days": age, "last_used": each.last_used,
        "last_address": each.last_address, "unused": unused,
    }  # fmt: skip


def _days_since(moment: str | None) -> float | None:
    if not moment:
        return None
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round(max(0.0, (datetime.now(UTC) - at).total_seconds()) / _DAY_SECONDS, 1)
