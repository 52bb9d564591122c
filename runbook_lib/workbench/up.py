"""`runbook up`: everything that there is, until Ctrl-C."""

from __future__ import annotations

import os
import sys
import threading

from runbook_lib.credentials.console_tokens import login_link
from runbook_lib.database import Database, open_database
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.pipeline.providers import Providers, resolve_providers
from runbook_lib.procedures.kernels import cool_down, warm_up
from runbook_lib.settings import Settings
from runbook_lib.workbench.children import Children
from runbook_lib.workbench.programs import (
    attend,
    lasting_programs,
    with_free_console_address,
    worker_command,
)

_PRINTING = threading.Lock()


def on_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def up(settings: Settings, actor: str) -> int:
    """Holds the database and the sandbox, and keeps a worker and the scheduler running.

    Without a terminal nobody could stop it: then a worker takes one pass over the queue.
    Returns the exit status.
    """
    with (
        open_database(settings, "runbook up") as database,
        resolve_providers(settings) as providers,
    ):
        for line in addresses(settings, database, providers):
            print(line, flush=True)
        if not on_a_terminal():
            return attend(worker_command("--until-empty"))
        return stay_up(settings, actor)


def stay_up(settings: Settings, actor: str) -> int:
    """Keeps the programs running until Ctrl-C or SIGTERM; prints a link that signs `actor` in."""
    settings = with_free_console_address(settings)
    print(f"Console:   {login_link(settings, actor)}", flush=True)
    print("Ctrl-C stops everything, in order.", flush=True)
    warm_up(settings.fork_server)  # held for as long as this stays up: runs then begin at once
    try:
        children = Children(lasting_programs(settings), os.environ, _say)
        return EXIT_DONE if children.keep_running() else EXIT_NOT_WELL
    finally:
        cool_down(settings.fork_server)


def addresses(settings: Settings, database: Database, providers: Providers) -> list[str]:
    """Where things are, without secrets."""
    embedded = (
        "" if settings.own_tables_url() else " (embedded; `runbook db url` shows the password)"
    )
    lines = [f"Database:  {database.address}{embedded}", f"Providers: {providers.describe()}"]
    if providers.wordpress.sandboxed:
        lines.append(f"Sandbox:   {providers.wordpress.url}")
    return [*lines, f"Home:      {settings.runbook_home}"]


def _say(name: str, line: str) -> None:
    with _PRINTING:
        print(f"{name:<9} | {line}", flush=True)
