"""Pages: templates in which every value is cleaned and escaped, and what all of them show."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from runbook_lib.console.admission import Caller
from runbook_lib.console.sessions import Sessions
from runbook_lib.credentials.masking import mask
from runbook_lib.errors import ConfigurationError
from runbook_lib.settings import Settings

_FILES = Path(__file__).parent
# Path, label: the order is that of an incident.
NAVIGATION = (
    ("/", "Overview"),
    ("/alerts", "Alerts"),
    ("/triage", "Triage"),
    ("/incidents", "Incidents"),
    ("/jobs", "Jobs"),
    ("/brakes", "Brakes"),
    ("/procedures", "Procedures"),
    ("/runs", "Runs"),
    ("/schedules", "Schedules"),
    ("/changes", "Changes"),
)
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


class Pages:
    """Renders templates for one console."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._settings = settings
        self._sessions = sessions
        self._environment = _environment()

    def show(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A page. Takes the note that an earlier form left, and shows it once."""
        note = self._sessions.read_note(request.cookies.get(self._sessions.note_cookie))
        caller: Caller | None = getattr(request.state, "caller", None)
        session = caller.session if caller else None
        text = self._environment.get_template(template).render(
            values,
            caller=caller,
            form_token=self._sessions.form_token(session) if session else "",
            may_write=bool(session and caller and caller.may_write),
            path=request.url.path,
            navigation=NAVIGATION,
            note=note,
            now=datetime.now(UTC),
            sandbox=self._sandbox(),
        )
        response = HTMLResponse(text, status)
        if note:
            response.delete_cookie(self._sessions.note_cookie, httponly=True, samesite="strict")
        return response

    def done(self, to: str, text: str, kind: str = "done") -> Response:
        """After a form: on to a page that says what was done, so that loading it again repeats nothing."""
        response = RedirectResponse(to, 303)
        response.set_cookie(
            self._sessions.note_cookie, self._sessions.note(text, kind), max_age=60,
            httponly=True, samesite="strict",
        )  # fmt: skip
        return response

    def refused(self, to: str, error: Exception) -> Response:
        """After a form that was refused: on to a page that says why."""
        return self.done(to, str(error), "refused")

    def _sandbox(self) -> str:
        try:
            sandboxed = self._settings.sandboxed()
        except ConfigurationError as error:
            return str(error)
        if not sandboxed:
            return ""
        return f"Sandbox: {' and '.join(sorted(sandboxed))} {'is' if len(sandboxed) == 1 else 'are'} stood in for. Nothing real is written or published there."


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """The console's own files by name: their bytes and type."""
    types = {
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
    return {
        path.name: (path.read_bytes(), types[path.suffix])
        for path in (_FILES / "static").iterdir()
        if path.suffix in types
    }


def clean(text: str) -> str:
    """A text from anywhere as people may see it: no secrets, and what cannot be seen is shown as a sign."""
    return mask(_UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FILES / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every value that a template shows passes here, whoever wrote the template.
        finalize=_shown,
    )
    environment.filters.update(
        age=age, moment=moment, machine_time=machine_time, seconds=seconds, words=words, number=number, short=short, query=query, prose=prose,
    )  # fmt: skip
    environment.globals["static"] = _static_address
    return environment


def _shown(value: Any) -> Any:
    if isinstance(value, Markup):
        return value
    return "" if value is None else clean(str(value))


@cache
def _static_address(name: str) -> str:
    digest = hashlib.sha256(static_files()[name][0]).hexdigest()[:12]
    return f"/static/{name}?{digest}"


def moment(value: Any) -> Any:
    """A time in UTC, machine-readable as well; the browser may show it in its own zone."""
    if value is None:
        return "–"
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        return value.isoformat() if isinstance(value, date) else value
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    at = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M:%S} UTC"
    )


def machine_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()


def age(value: Any) -> Any:
    """How long ago a time was, in words; the time itself stands behind it."""
    if value is None:
        return "–"
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    at = value.astimezone(UTC)
    passed = (datetime.now(UTC) - at).total_seconds()
    text = f"in {seconds(-passed)}" if passed < -1 else f"{seconds(max(0.0, passed))} ago"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M:%S} UTC", text
    )


def seconds(value: Any) -> str:
    """A length of time in the largest unit that fits: `40 s`, `12 min`, `3 h`, `5 days`."""
    if value is None:
        return "–"
    if isinstance(value, timedelta):
        value = value.total_seconds()
    value = float(value)
    if value < 10:
        return f"{value:.1f} s"
    for limit, divisor, unit in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if value < limit:
            return f"{value / divisor:.0f} {unit}"
    return f"{value / 86400:.0f} days"


def words(value: Any) -> str:
    return "–" if value is None else str(value).replace("_", " ")


def prose(value: Any) -> Markup:
    """A text in which what stands between backticks is something to type."""
    parts = clean("" if value is None else str(value)).split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def number(value: Any) -> str:
    """With narrow spaces between thousands; a dash for what is not known."""
    if value is None or value != value:
        return "–"
    text = (
        f"{value:,}" if isinstance(value, int) else f"{float(value):,.2f}".rstrip("0").rstrip(".")
    )
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}")


def short(value: Any, characters: int = 80) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= characters else text[: characters - 1] + "…"


def query(values: Mapping[str, Any]) -> Markup:
    """Values as a query for a link, without those that are empty."""
    given = {name: value for name, value in values.items() if value not in (None, "")}
    return Markup(escape(f"?{urlencode(given)}")) if given else Markup("")
