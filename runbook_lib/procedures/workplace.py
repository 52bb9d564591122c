"""Where a notebook works: the database, the role, real providers or the sandbox, the code."""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import UTC

from runbook_lib import __version__
from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database, UnavailableDatabase
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.sources import Sources, open_sources
from runbook_lib.settings import Settings, load_settings


@dataclass(frozen=True)
class Workplace:
    """What a procedure works on; shown in a notebook, it says so before anything is done.

    `sources` are the pipeline's database and ours; `database` is the one with our own tables. `problem`
    says why they cannot be used; then whatever asks them is told the same.
    """

    sources: Sources
    facts: dict[str, str]
    problem: str | None = None

    @property
    def database(self) -> Database:
        return self.sources.bookkeeping

    def __repr__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self.facts.items()]
        return "\n".join([*([self.problem] if self.problem else []), *lines])

    def _repr_html_(self) -> str:
        facts = " · ".join(
            f"<strong>{html.escape(name)}:</strong> {html.escape(value)}"
            for name, value in self.facts.items()
        )
        if self.problem is None:
            return f"<p>{facts}</p>"
        problem = html.escape(self.problem)
        return f'<div class="verdict verdict-critical"><p>{problem}</p></div><p>{facts}</p>'


def open_workplace() -> Workplace:
    """Opens the databases that the settings name. Never raises: what is wrong is shown and kept."""
    try:
        settings = load_settings()
        facts = {"Providers": _providers(settings), "Code": __version__}
        sources = open_sources(settings, "runbook notebook")
        return Workplace(sources, {**_server(sources), **facts})
    except RunbookError as error:
        unavailable = UnavailableDatabase(error)
        problem = one_line(str(error), 1000)
        return Workplace(Sources(unavailable, unavailable), {"Code": __version__}, problem)


def _server(sources: Sources) -> dict[str, str]:
    database = sources.pipeline
    with database.transaction(read_only=True) as transaction:
        row = transaction.row(load("workplace")["who_and_where"])
    assert row is not None
    where = {"Database": f"{database.address}, schema {database.schema}"}
    if sources.attached:
        ours = sources.bookkeeping
        where["Database"] += " (not ours: only read)"
        where["Our own tables"] = f"{ours.address}, schema {ours.schema}"
    return {
        **where,
        "Role": row.role,
        "PostgreSQL": row.server_version.split()[0],
        "Its time": row.server_time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def _providers(settings: Settings) -> str:
    sandboxed = settings.sandboxed()
    said = {name: "sandbox" if name in sandboxed else "real" for name in ("openai", "wordpress")}
    return f"OpenAI {said['openai']}, WordPress {said['wordpress']}"
