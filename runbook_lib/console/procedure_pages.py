"""Procedures: the list, and for each its card, a form made from what it declares, and its last runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console.house import Fields, House, TheCaller, TheContext, TheHouse
from runbook_lib.console.run_pages import find_runs
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.context import Context
from runbook_lib.procedures import catalogue
from runbook_lib.procedures.catalogue import Procedure
from runbook_lib.procedures.parameters import Declaration, check, from_texts, plain
from runbook_lib.rehearsal.records import newest, proofs

router = APIRouter(include_in_schema=False)
PREFIX = "parameter."


@dataclass(frozen=True)
class Field:
    """One field of a parameter form: its input, what stands in it, and what it takes in words."""

    name: str
    kind: str
    value: str
    takes: str
    help: str
    choices: tuple[str, ...] = ()
    minimum: str = ""
    maximum: str = ""


@router.get("/procedures")
def list_procedures(request: Request, house: TheHouse, context: TheContext) -> Response:
    """Every procedure by chapter, with its last run; what is no procedure is said."""
    found, problems = _all(house)
    with context.sources.bookkeeping.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("console")["latest_runs"])
    chapters: dict[str, list[Procedure]] = {}
    for procedure in found:
        chapters.setdefault(procedure.name.split("/")[0], []).append(procedure)
    return house.pages.show(
        request, "procedures.html.j2", title="Procedures", chapters=chapters, problems=problems,
        latest={row.procedure: row for row in rows},
        proofs=proofs(context.sources.bookkeeping, [each.name for each in found], context.policy.rehearsals),
    )  # fmt: skip


@router.get("/rehearsals")
def list_rehearsals(request: Request, house: TheHouse, context: TheContext) -> Response:
    """When each procedure was last proven, those that are due first, and the newest rehearsals."""
    found, _ = _all(house)
    titles = {each.name: each.card.title for each in found}
    known = proofs(context.sources.bookkeeping, titles, context.policy.rehearsals).values()
    return house.pages.show(
        request, "rehearsals.html.j2", title="Rehearsals", titles=titles,
        due=[each for each in known if each.is_due],
        proven=[each for each in known if each.standing == "proven"],
        rehearsals=newest(context.sources.bookkeeping), due_days=context.policy.rehearsals.due_days,
    )  # fmt: skip


@router.get("/procedures/{chapter}/{name}")
def show_procedure(
    request: Request, house: TheHouse, context: TheContext, chapter: str, name: str
) -> Response:
    """A procedure with its form, filled in from the address: an alert's link leads here."""
    found = catalogue.find(f"{chapter}/{name}", house.settings)
    return _page(request, house, context, found, dict(request.query_params))


@router.post("/procedures/{chapter}/{name}/run")
def run_procedure(
    request: Request, house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields,
    chapter: str, name: str,
) -> Response:  # fmt: skip
    """Runs a procedure with what was filled in; says what is wrong with it otherwise."""
    found = catalogue.find(f"{chapter}/{name}", house.settings)
    given = {
        field.removeprefix(PREFIX): value
        for field, value in fields.items()
        if field.startswith(PREFIX)
    }
    try:
        values = checked_values(found, given)
        run_id = house.runs.start(context, found.name, values, caller.actor)
    except RunbookError as error:
        return _page(request, house, context, found, given, problem=str(error))
    to = f"/runs/{run_id}" if run_id else f"/runs?procedure={found.name}"
    return house.pages.done(to, f"{found.card.title}: started.")


def checked_values(procedure: Procedure, given: Mapping[str, str]) -> dict[str, Any]:
    """What was typed into a form, as the declared types; what is as by default is left out.

    Raises `ParametersRefused` naming every fault.
    """
    texts = {
        name: value
        for name, value in given.items()
        if value or (name in procedure.declarations and procedure.declarations[name].optional)
    }
    values = check(procedure.declarations, from_texts(procedure.declarations, texts))
    return {
        name: value
        for name, value in values.items()
        if value != procedure.declarations[name].default
    }


def _page(
    request: Request, house: House, context: Context, found: Procedure, given: Mapping[str, str],
    problem: str = "",
) -> Response:  # fmt: skip
    unknown = sorted(set(given) - set(found.declarations))
    if unknown and not problem:
        problem = f"The link named {', '.join(unknown)}, which this procedure does not take; it was left out."
    return house.pages.show(
        request, "procedure.html.j2", status=400 if request.method == "POST" else 200,
        title=found.card.title, procedure=found, problem=problem,
        fields=[_field(each, given.get(each.name)) for each in found.declarations.values()],
        runs=find_runs(context, procedure=found.name, row_count=8), proven=proofs(context.sources.bookkeeping, [found.name], context.policy.rehearsals)[found.name].words,
    )  # fmt: skip


def _field(declaration: Declaration, given: str | None) -> Field:
    value = _text(declaration.default) if given is None else given
    kind = {"int": "number", "float": "number", "date": "date", "list": "json", "dict": "json"}
    choices = tuple(map(_text, declaration.choices or ()))
    if declaration.kind == "bool":
        choices = ("true", "false")
    return Field(
        declaration.name, "choice" if choices else kind.get(declaration.kind, "text"), value,
        declaration.range_in_words(), declaration.help,
        choices=(*choices, "") if declaration.optional and choices else choices,
        minimum=_text(declaration.minimum), maximum=_text(declaration.maximum),
    )  # fmt: skip


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        import json

        return json.dumps(value, ensure_ascii=False)
    return str(plain({"": value})[""])


def _all(house: House) -> tuple[list[Procedure], dict[str, str]]:
    found, problems = [], {}
    for name, path in catalogue.names(house.settings).items():
        try:
            found.append(catalogue.load(name, path))
        except RunbookError as error:
            problems[name] = str(error)
    return found, problems
