"""`runbook console`: the pages and the functions over HTTP."""

from __future__ import annotations

import click

from runbook_lib.cli.output import actor_option
from runbook_lib.credentials.console_tokens import (
    SCOPES,
    Scope,
    kept_console_address,
    login_link,
)
from runbook_lib.settings import Settings, current_actor, load_settings


@click.command()
@click.option("--address", metavar="HOST:PORT", help="Where to listen (default: RUNBOOK_CONSOLE_ADDRESS).")  # fmt: skip
@click.option("--link", is_flag=True, help="Only print a login link of a console that is up.")
@click.option("--scope", type=click.Choice(SCOPES), default="write", show_default=True, help="How far the link lets somebody in.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Do not print a login link.")
@actor_option
def console(address: str | None, link: bool, scope: Scope, quiet: bool, actor: str | None) -> None:
    """Serves the console until Ctrl-C, and prints a link that signs you in.

    A link works once and for an hour. Whoever uses it acts under the name of who printed it; --actor
    makes one for somebody else.
    """
    settings = load_settings()
    who = current_actor(actor)
    if link:
        click.echo(login_link(_at(settings, address or kept_console_address(settings)), who, scope))
        return
    from runbook_lib.console.serving import serve

    def say(found: str) -> None:
        click.echo(f"The console is at {found}")
        if not quiet:
            click.echo(
                f"Sign in:          {login_link(_at(settings, kept_console_address(settings)), who, scope)}"
            )

    serve(_at(settings, address), say)


def _at(settings: Settings, address: str | None) -> Settings:
    return settings.model_copy(update={"runbook_console_address": address}) if address else settings
