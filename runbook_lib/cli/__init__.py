"""The command line. Each command's module is imported only when that command is called."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from runbook_lib.errors import EXIT_COULD_NOT_BE_DONE, RunbookError

# name → (module, attribute, one line for the list of commands)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("runbook_lib.cli.workbench", "demo", "Publish the example topics into a sandbox, then write the weekly report."),
    "up": ("runbook_lib.cli.workbench", "up", "Run everything that there is, until Ctrl-C."),
    "console": ("runbook_lib.cli.console", "console", "Serve the pages and the functions over HTTP; print a login link."),
    "doctor": ("runbook_lib.cli.doctor", "doctor", "Say in words what is wrong with the database, a key or the site."),
    "triage": ("runbook_lib.cli.triage", "triage", "Say what is wrong, on what evidence, and what is safe to do first."),
    "rehearse": ("runbook_lib.cli.rehearse", "rehearse", "Practise on a staged fault: quota, login, worker."),
    "db": ("runbook_lib.cli.db", "db", "The database: up, down, status, url, migrate."),
    "jobs": ("runbook_lib.cli.jobs", "jobs", "Jobs: add, list, show, retry, cancel."),
    "pause": ("runbook_lib.cli.brakes", "pause", "Pause a provider for all workers."),
    "resume": ("runbook_lib.cli.brakes", "resume", "End a pause."),
    "limits": ("runbook_lib.cli.brakes", "limits", "Show or set limits: requests, concurrency, tokens and cost a day."),
    "workers": ("runbook_lib.cli.brakes", "workers", "List workers, or ask one to drain."),
    "posts": ("runbook_lib.cli.posts", "posts", "Unpublish, republish or trash the posts of a set of jobs."),
    "changes": ("runbook_lib.cli.changes", "changes", "Planned changes: list, plan, apply."),
    "secrets": ("runbook_lib.cli.secrets", "secrets", "Keys and passwords: list, stage, test, activate, verify, retire, rotate."),
    "run": ("runbook_lib.cli.procedures", "run", "Run a procedure and archive it."),
    "cancel": ("runbook_lib.cli.procedures", "cancel", "End a run, on whatever host it is."),
    "checklist": ("runbook_lib.cli.checklist", "checklist", "Checklists: show, tick, untick."),
    "procedures": ("runbook_lib.cli.procedures", "procedures", "The procedures that there are."),
    "schedule": ("runbook_lib.cli.schedule", "schedule", "Schedules: list, check, start, run-now, pause, resume."),
    "function": ("runbook_lib.cli.function", "function", "The runbook's functions: health, monitoring, metrics, sweeper …"),
    "spool": ("runbook_lib.cli.spool", "spool", "Records kept while the database was away: list, file."),
    "monitor": ("runbook_lib.cli.alerts", "monitor", "Survey each minute and tell who has to be told."),
    "alerts": ("runbook_lib.cli.alerts", "alerts", "Alerts: list, show, ack, test."),
    "incident": ("runbook_lib.cli.incident", "incident", "Incidents: open, join, note, list, show, close."),
    "lab": ("runbook_lib.cli.lab", "lab", "JupyterLab for responders, on this machine only."),
    "backup": ("runbook_lib.cli.backup", "backup", "Backups: the newest one's age, a trial restore, the archive."),
    "archive": ("runbook_lib.cli.archive", "archive", "The archive: list, show, open."),
}  # fmt: skip


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="runbook-workbench")
def runbook() -> None:
    """Operate a content pipeline: jobs, procedures and their archive.

    Exit status: 0 done and well, 1 done and not well, 2 wrong use, 3 could not be done.
    """


def main(arguments: list[str] | None = None) -> Any:
    """The `runbook` command. Errors that the workbench can explain become one line and their status."""
    try:
        status = runbook.main(args=arguments, prog_name="runbook", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RunbookError as error:
        click.echo(f"runbook: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(EXIT_COULD_NOT_BE_DONE)
    sys.exit(status if isinstance(status, int) else 0)
