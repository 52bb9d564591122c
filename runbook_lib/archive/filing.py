"""Files what a run left: redacted, rendered, searched for secrets, and stored, each object once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib import known_secrets
from runbook_lib.archive.chain import stem_of_run
from runbook_lib.archive.notebook_files import notebook_bytes, replace_atomically
from runbook_lib.archive.redaction import redact_notebook, redacted
from runbook_lib.archive.rendering import Page, render
from runbook_lib.archive.store import AlreadyHeld, Store, StoredObject
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.settings import Settings

CARD_KEY = "runbook"
_TRIES_FOR_A_NAME = 9


@dataclass(frozen=True)
class ArchivedAs:
    """The objects that a run left in the archive; all empty when nothing was archived.

    `sha256` is the notebook's. `objects` may hold one without the other where the disk took no more.
    """

    notebook: str | None = None
    html: str | None = None
    sha256: str | None = None
    objects: tuple[StoredObject, ...] = ()


class NotArchived(CouldNotBeDone):
    """A run's notebook and page are not both in the archive. `archived` is what there is of them."""

    def __init__(self, message: str, archived: ArchivedAs) -> None:
        super().__init__(message)
        self.archived = archived


def file_run(
    notebook: Any, facts: Mapping[str, Any], *, summary: str, store: Store, settings: Settings
) -> ArchivedAs:
    """Stores an executed notebook and its page.

    `facts` is what both say of their run: `run_id`, `procedure`, `started_at` (ISO), `status`,
    `verdict`, `error`, `cells`, and whatever else there is to say. Raises `NotArchived` when a known
    secret is left in them after redaction (then they are quarantined), or the archive is full.
    """
    redact_notebook(notebook)
    told: dict[str, Any] = redacted(dict(facts))
    notebook.metadata["runbook_run"] = told
    source, html = notebook_bytes(notebook), render(notebook, _page(notebook, told, summary))
    if secrets := known_secrets.found_in(source) + known_secrets.found_in(html):
        raise NotArchived(
            f"The executed notebook still holds {', '.join(sorted(set(secrets)))} after redaction; "
            f"it is not archived but quarantined at {_quarantine(settings, told['run_id'], source)}.",
            ArchivedAs(),
        )
    return _store_both(store, told, source, html)


def _store_both(store: Store, facts: Mapping[str, Any], source: bytes, html: bytes) -> ArchivedAs:
    started_at = datetime.fromisoformat(facts["started_at"]).astimezone(UTC)
    stem = stem_of_run(facts["procedure"], started_at, facts["run_id"])
    # A runner that vanished may have archived its run before it did; that is then the evidence.
    lost = facts["status"] == "lost"
    archived = ArchivedAs()
    try:
        stored = _store(store, stem, ".ipynb", source, lost)
        archived = ArchivedAs(stored.name, None, stored.sha256, (stored,))
        page = _store(store, stem, ".html", html, lost)
    except CouldNotBeDone as error:
        raise NotArchived(str(error), archived) from error
    return ArchivedAs(stored.name, page.name, stored.sha256, (stored, page))


def _store(store: Store, stem: str, ending: str, data: bytes, lost: bool) -> StoredObject:
    for number in range(1, _TRIES_FOR_A_NAME + 1):
        name = f"{stem}{ending}" if number == 1 else f"{stem}-{number}{ending}"
        if lost and (before := store.found(name)) is not None:
            return before
        try:
            return store.write(name, data)
        except AlreadyHeld:
            continue
    raise CouldNotBeDone(f"The archive holds {stem}{ending} and {number} more of it already.")


def _page(notebook: Any, facts: Mapping[str, Any], summary: str) -> Page:
    status, verdict = facts["status"], facts["verdict"]
    ended = status.replace("_", " ")
    notice = (
        f"This run {ended}: {facts['error']} What stands below is what there was; {facts['cells']}."
    )
    return Page(
        title=notebook.metadata.get(CARD_KEY, {}).get("title", facts["procedure"]),
        badge=verdict if status == "succeeded" and verdict else status,
        summary=summary,
        notice="" if status == "succeeded" else notice,
        facts=tuple(
            (name.replace("_", " "), _shown(value))
            for name, value in facts.items()
            if value not in (None, {})
        ),
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quarantine(settings: Settings, run_id: str, data: bytes) -> Path:
    directory = settings.runbook_home / "quarantine"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_atomically(directory / f"{run_id}.ipynb", data)
    return directory / f"{run_id}.ipynb"
