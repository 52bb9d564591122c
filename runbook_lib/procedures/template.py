"""A new procedure from the template: notebook and statements, in a team's own folder, in the right form."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

from runbook_lib.errors import UsageError
from runbook_lib.procedures.card import METADATA_KEY, read_card
from runbook_lib.procedures.catalogue import is_name, names
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

TEMPLATE = PROJECT_DIRECTORY / "examples" / "procedure_template.ipynb"
_PLACEHOLDER = "CHAPTER/NAME"
# The first review comes soon: what was just written is rarely right.
FIRST_REVIEW_DAYS = 92


def new_procedure(
    name: str, settings: Settings, *, title: str | None = None, author: str, today: date
) -> Path:
    """Writes `name`, chapter/name, into RUNBOOK_PROCEDURES; returns the notebook's path.

    Raises `UsageError` for a name that does not fit or is taken, or when no such folder is named.
    """
    if settings.runbook_procedures is None:
        raise UsageError(
            "RUNBOOK_PROCEDURES names no folder; your own procedures go there, where upgrades never touch them."
        )
    if not is_name(name):
        raise UsageError(f"{name!r} is no name; it is chapter/name in small letters, digits and _.")
    if name in names(settings):
        raise UsageError(f"There is a procedure {name} already, in {names(settings)[name]}.")
    path = settings.runbook_procedures / f"{name}.ipynb"
    text = TEMPLATE.read_text("utf-8").replace(_PLACEHOLDER, name)
    notebook = json.loads(text)
    card = notebook["metadata"][METADATA_KEY]
    card.update(
        title=title or name.partition("/")[2].replace("_", " ").capitalize(),
        reviewed_by=author, reviewed_on=today.isoformat(),
        next_review=(today + timedelta(days=FIRST_REVIEW_DAYS)).isoformat(),
    )  # fmt: skip
    notebook["cells"][0]["source"] = read_card(notebook["metadata"], name).markdown().splitlines(keepends=True)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    path.with_suffix(".sql").write_text(TEMPLATE.with_suffix(".sql").read_text("utf-8"), "utf-8")
    return path
