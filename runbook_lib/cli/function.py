"""`runbook function`: the written runbook's functions, by name."""

from __future__ import annotations

import json
from typing import Any

import click

from runbook_lib.cli.output import MARKS, actor_option, json_option, print_json
from runbook_lib.errors import (
    EXIT_COULD_NOT_BE_DONE,
    EXIT_DONE,
    EXIT_NOT_WELL,
    EXIT_WRONG_USE,
    UsageError,
)
from runbook_lib.functions import FUNCTIONS, Answer


@click.command()
@click.argument("name", required=False)
@click.option(
    "--data", metavar="JSON", help="What the function is given, as a JSON object (a POST)."
)
@click.option("--curl", is_flag=True, help="Print the curl line that asks the console the same.")
@actor_option
@json_option
def function(
    name: str | None, data: str | None, curl: bool, actor: str | None, as_json: bool
) -> int:
    """Call one of the functions that the console serves under /functions/v1/NAME.

    Without --data it only reads, as GET does; with it, it is a POST: `--data '{}'` is what lets the
    sweeper sweep. Without NAME the functions are listed.
    """
    from runbook_lib.functions import call
    from runbook_lib.functions.addresses import curl_line
    from runbook_lib.health.context import open_context
    from runbook_lib.settings import current_actor, load_settings

    if name is None:
        return _list(as_json)
    given, method = _read(data), "GET" if data is None else "POST"
    settings = load_settings()
    if curl:
        if name not in FUNCTIONS:
            raise UsageError(f"There is no function {name!r}; there is {', '.join(FUNCTIONS)}.")
        click.echo(curl_line(settings, name, given, method))
        return EXIT_DONE
    with open_context(settings, "runbook function", require_schema=False) as context:
        answer = call(name, given, method=method, context=context, actor=current_actor(actor))
    print_json(answer.body) if as_json else _print(answer)
    return _exit_status(answer)


def _list(as_json: bool) -> int:
    rows = [{"name": each.name, "summary": each.summary} for each in FUNCTIONS.values()]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{row['name']:<22} {row['summary']}")
    return EXIT_DONE


def _read(data: str | None) -> dict[str, Any] | None:
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError as error:
        raise UsageError(f"--data is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise UsageError("--data must be a JSON object, such as '{\"dry_run\": true}'.")
    return found


def _exit_status(answer: Answer) -> int:
    """0 well, 1 something is critical, 2 wrong use, 3 it could not be done."""
    if answer.body.get("verdict") == "critical":
        return EXIT_NOT_WELL
    if answer.status < 400:
        return EXIT_DONE
    return EXIT_WRONG_USE if answer.status < 500 else EXIT_COULD_NOT_BE_DONE


def _print(answer: Answer) -> None:
    """Checks as lines, worst first; anything else as JSON."""
    checks = answer.body.get("checks")
    if checks is None:
        click.echo(json.dumps(answer.body, ensure_ascii=False, indent=2))
        return
    for check in checks:
        _print_check(check)
    seconds = answer.body.get("seconds")
    after = f" ({len(checks)} checks, {seconds:g} s)" if seconds is not None else ""
    click.echo(f"\n{MARKS[answer.body['verdict']][0]}{after}. All figures: --json.")


def _print_check(check: dict[str, Any]) -> None:
    mark, colour = MARKS[check["verdict"]]
    click.echo(
        f"{click.style(mark.ljust(11), fg=colour)} {check['name'].ljust(30)} {check['message']}"
    )
    indent = " " * 43
    for line in check["details"].get("tree", ()):
        click.echo(f"{indent}{line}")
    if check["verdict"] != "ok" and check["next"]:
        click.echo(f"{indent}→ {check['next']}")
    if check["verdict"] != "ok" and check["procedure"]:
        given = "".join(f" -p {name}={value}" for name, value in check["parameters"].items())
        click.echo(f"{indent}→ runbook run {check['procedure']}{given}")
