"""What a vendor's support asks for: times, request ids, answers without secrets, as one zip."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib import known_secrets
from runbook_lib.archive.notebook_files import replace_atomically
from runbook_lib.credentials.masking import mask, redacted
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, UsageError
from runbook_lib.health.alerts.messages import moment
from runbook_lib.health.context import Context
from runbook_lib.incidents.copies import incidents_folder
from runbook_lib.incidents.records import Incident

_SQL = load("incident_impact")
DEADLINE_SECONDS = 30.0
MOST_REQUESTS = 2_000
# Vendor → the provider as attempts name it; of any other vendor, the database's own errors.
_PROVIDERS = {"openai": "openai", "wordpress": "wordpress"}
_COLUMNS = ("execution_time", "started_at", "completed_at", "request_id", "http_status", "provider_code",
            "error_class", "stage", "model", "status", "job_id", "attempt")  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """The zip, and how many failed requests of how many attempts are in it."""

    path: Path
    vendor: str
    requests: int
    with_request_id: int
    attempts: int


def write_bundle(context: Context, incident: Incident, vendor: str) -> Bundle:
    """Writes the bundle for one vendor of the policy. Raises `UsageError` for another one, and
    `CouldNotBeDone` when a known secret is left in it."""
    known = context.policy.vendors
    if vendor not in known:
        raise UsageError(f"{vendor[:40]!r} is none of the policy's vendors: {', '.join(sorted(known))}.")  # fmt: skip
    requests, attempts = _read(context, incident, vendor)
    rows = [redacted(row) for row in requests]
    found = Bundle(
        _place(context, incident, vendor), vendor, len(rows),
        sum(bool(row["request_id"]) for row in rows), attempts.attempts,
    )  # fmt: skip
    files = {
        "README.md": _covering_letter(context, incident, found, attempts.completed),
        "requests.csv": _table(rows),
        "answers.json": json.dumps([_answer(row) for row in rows], indent=1, ensure_ascii=False, default=str),
    }  # fmt: skip
    data = _zip({name: mask(text).encode() for name, text in files.items()})
    found.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_atomically(found.path, data)
    return found


def _read(context: Context, incident: Incident, vendor: str) -> tuple[list[dict[str, Any]], Any]:
    sources = context.sources
    window = {"since": incident.began_at, "until": incident.until}
    provider = _PROVIDERS.get(vendor)
    statement = _SQL["requests_of_vendor" if provider else "requests_of_database"]
    chosen = {"provider": provider} if provider else {}
    with sources.pipeline.transaction(
        read_only=True, deadline_seconds=DEADLINE_SECONDS
    ) as transaction:
        rows = transaction.rows(sources.reading(statement), **window, **chosen, limit=MOST_REQUESTS)
        attempts = transaction.row(sources.reading(_SQL["attempts_of_vendor"]), **window)
    return [{**row._asdict(), "job_id": str(row.job_id)} for row in rows], attempts


def _covering_letter(context: Context, incident: Incident, bundle: Bundle, completed: int) -> str:
    vendor = context.policy.vendors[bundle.vendor]
    status = f"\nYour status page: {vendor.status_url}" if vendor.status_url else ""
    return (
        f"# {incident.title}\n\n"
        f"To the support of {bundle.vendor}: {vendor.support_url}{status}\n\n"
        f"From {moment(incident.began_at)} to {moment(incident.until)}, {bundle.requests:,} requests of ours "
        f"failed at your side, {bundle.with_request_id:,} of them with a request id. In this time there were "
        f"{bundle.attempts:,} attempts, of which {completed:,} succeeded.\n\n"
        "- `requests.csv`: one line a failed request, the newest first; times are UTC.\n"
        "- `answers.json`: what was answered, without keys, passwords and content.\n\n"
        f"Our reference: {incident.incident}. Severity for us: {incident.severity}.\n"
        + (f"There were more than {MOST_REQUESTS:,}; the newest are here.\n" if bundle.requests == MOST_REQUESTS else "")
    )  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in _COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    # A spreadsheet must not take an answer for a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" and value[:1] else value


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    names = ("execution_time", "request_id", "http_status", "provider_code", "error")
    return {name: _cell(row[name]) for name in names}


def _zip(files: dict[str, bytes]) -> bytes:
    for name, data in files.items():
        if secrets := known_secrets.found_in(data):
            raise CouldNotBeDone(f"{name} still holds {', '.join(secrets)}; no bundle was written.")
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return written.getvalue()


def _place(context: Context, incident: Incident, vendor: str) -> Path:
    folder = incidents_folder(context.settings) / incident.incident
    return folder / f"{vendor}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip"
