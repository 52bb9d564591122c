"""Incidents in the console: opened from an alert, noted in, drafted from, and closed."""

from __future__ import annotations

import html
import json
import re
import uuid
from typing import Any

from running_console import Browser, RunningConsole

HOSTILE = '<img src=x onerror="alert(1)"> & "quoted"'


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def add_alert(console: RunningConsole) -> str:
    assert console.database is not None
    alert_id = str(uuid.uuid4())
    with console.database.transaction() as transaction:
        transaction.run(
            "INSERT INTO alerts (alert_id, cause, status, severity, level, since, opened_at, last_seen_at, evidence) "
            "VALUES (%(alert_id)s, %(cause)s, 'open', 'critical', 1, now() - interval '20 minutes', now(), now(), %(evidence)s)",
            alert_id=alert_id, cause=f"queue.{alert_id[:8]}",
            evidence=json.dumps({"message": HOSTILE, "procedure": "daily/failure_rate", "parameters": {"wrong": 1}}),
        )  # fmt: skip
    return alert_id


def opened(console: RunningConsole, ana: Browser, **fields: Any) -> str:
    """Opens one through the form; returns the address of its page."""
    given = {"title": "Slow today", "severity": "minor", **fields}
    answer = ana.send("/incidents/open", given)
    assert answer.status_code == 200, text_of(answer.text)
    found = re.search(r"/incidents/(\d{4}-\d\d-\d\d-\w{5})", answer.url)
    assert found is not None, text_of(answer.text)
    return found[0]


def test_an_alert_leads_to_an_incident_with_its_procedure_and_its_hostile_text(
    console: RunningConsole,
) -> None:
    ana, alert = console.browser("ana"), add_alert(console)
    assert f"/incidents?alert={alert}" in ana.get(f"/alerts/{alert}").text
    form = ana.get(f"/incidents?alert={alert}")
    assert HOSTILE in html.unescape(form.text)
    page = ana.get(opened(console, ana, title=HOSTILE, alert=alert)).text
    assert "<img" not in page
    said = text_of(page)
    assert HOSTILE in said
    assert "daily/failure_rate" in said
    assert "It goes on since 20 min ago" in said
    overview = ana.get("/").text
    assert "<img" not in overview
    assert f"incident {HOSTILE} , since" in text_of(overview)


def test_notes_drafts_and_the_end_of_an_incident(console: RunningConsole) -> None:
    ana = console.browser("ana")
    place = opened(console, ana)
    assert "Noted." in text_of(ana.send(f"{place}/note", {"text": HOSTILE}).text)
    for kind, word in (("update", "Last noted"), ("hand-over", "Hand-over of"), ("post-mortem", "Post-mortem of")):  # fmt: skip
        draft = ana.get(f"{place}/draft/{kind}?to=ben")
        assert word in text_of(draft.text)
        assert "<img" not in draft.text
        page = ana.get(f"{place}/page/{kind}")
        assert "<img" not in page.text
        assert page.headers["content-security-policy"].startswith("sandbox")
    assert "Handed over to ben." in text_of(ana.send(f"{place}/said", {"kind": "hand-over", "to": "ben"}).text)  # fmt: skip
    assert "How did it end?" in text_of(ana.send(f"{place}/close", {"resolution": " "}).text)
    closed = text_of(ana.send(f"{place}/close", {"resolution": "Somebody pulled the plug in again."}).text)  # fmt: skip
    assert "The incident is closed" in closed
    assert "Closed: Somebody pulled the plug in again." in closed
    assert "Somebody pulled" in text_of(ana.get(f"{place}/page/post-mortem").text)
    assert "It was closed by ana" in text_of(ana.send(f"{place}/note", {"text": "late"}).text)


def test_what_is_no_incident_or_draft_is_not_found_and_readers_change_nothing(
    console: RunningConsole,
) -> None:
    ana, reader = console.browser("ana"), console.browser("eve", "read")
    place = opened(console, ana)
    assert ana.get("/incidents/2026-01-01-zzzzz").status_code == 404
    assert ana.get(f"{place}/draft/novel").status_code == 404
    assert reader.send(f"{place}/note", {"text": "x"}).status_code == 403
    assert reader.send("/incidents/open", {"title": "x", "severity": "minor"}).status_code == 403
    assert "Close the incident" not in reader.get(place).text
