"""The console's application: the gate, the routes, and what happens when one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg2
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console import (
    alert_pages,
    brake_pages,
    change_pages,
    function_routes,
    incident_pages,
    job_pages,
    login_pages,
    metric_routes,
    overview_pages,
    procedure_pages,
    run_pages,
    schedule_pages,
    triage_pages,
)
from runbook_lib.console.access_log import AccessLog
from runbook_lib.console.admission import FUNCTIONS, Admission, Refused
from runbook_lib.console.answers import Answers
from runbook_lib.console.figures import Overview
from runbook_lib.console.function_schemas import components
from runbook_lib.console.gate import Gate
from runbook_lib.console.house import House
from runbook_lib.console.kept_diagnosis import KeptDiagnosis
from runbook_lib.console.liveness import Liveness
from runbook_lib.console.pages import Pages
from runbook_lib.console.sessions import Sessions
from runbook_lib.console.started_runs import StartedRuns
from runbook_lib.console.workplace import Workplace
from runbook_lib.credentials.console_tokens import load_tokens
from runbook_lib.errors import RunbookError
from runbook_lib.settings import Settings

# A new page is a router in a module of its own, named here.
ROUTERS = (
    login_pages.router,
    overview_pages.router,
    alert_pages.router,
    incident_pages.router,
    job_pages.router,
    brake_pages.router,
    change_pages.router,
    procedure_pages.router,
    run_pages.router,
    schedule_pages.router,
    triage_pages.router,
    function_routes.router,
    metric_routes.router,
)
DESCRIPTION = (
    "The written runbook's functions over HTTP. GET reads; POST is taken by all. Send "
    "`Authorization: Bearer` with the read token, or the write token for what changes something."
)


def create(settings: Settings) -> FastAPI:
    """The console over these settings. It is up whether the database is or not.

    Raises `ConfigurationError` for tokens that could be guessed.
    """
    house = _house(settings)
    application = FastAPI(
        title="Runbook workbench",
        description=DESCRIPTION,
        version="1",
        lifespan=_lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    application.state.house = house
    for router in ROUTERS:
        application.include_router(router)
    _answer_errors(application, house.answers)
    _complete_description(application)
    application.add_middleware(
        Gate,
        admission=house.admission,
        log=house.log,
        answer=house.answers.refusal,
        secure=house.secure,
    )
    return application


def _complete_description(application: FastAPI) -> None:
    """Adds to the OpenAPI document what the functions' routes refer to."""
    document = application.openapi()
    for kind, found in components().items():
        document.setdefault("components", {}).setdefault(kind, {}).update(found)
    application.openapi_schema = document


def _house(settings: Settings) -> House:
    workplace = Workplace(settings)
    tokens = load_tokens(settings)
    sessions = Sessions(tokens.signing_key)
    pages = Pages(settings, sessions)
    return House(
        settings=settings,
        workplace=workplace,
        tokens=tokens,
        sessions=sessions,
        admission=Admission(settings, tokens, sessions),
        pages=pages,
        answers=Answers(pages),
        log=AccessLog(lambda: workplace.context().sources.bookkeeping),
        liveness=Liveness(),
        overview=Overview(),
        runs=StartedRuns(),
        diagnosis=KeptDiagnosis(),
    )


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    house: House = application.state.house
    house.log.start()
    try:
        yield
    finally:
        house.runs.close()
        house.log.close()
        house.workplace.close()


def _answer_errors(application: FastAPI, answers: Answers) -> None:
    async def of_the_gate(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return answers.refusal(request.scope, error)

    async def of_ours(request: Request, error: Exception) -> Response:
        return answers.error(request, error)

    async def of_the_router(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = answers.http_error(request, error.status_code)
        response.headers.update(error.headers or {})
        if error.status_code == 405 and request.url.path.startswith(FUNCTIONS):
            response.headers["allow"] = "GET, HEAD, POST"  # each has a route of its own
        return response

    async def of_an_input(request: Request, _: Exception) -> Response:
        return answers.http_error(request, 400)

    application.add_exception_handler(Refused, of_the_gate)
    for kind in (RunbookError, psycopg2.Error):
        application.add_exception_handler(kind, of_ours)
    application.add_exception_handler(HTTPException, of_the_router)
    application.add_exception_handler(RequestValidationError, of_an_input)
