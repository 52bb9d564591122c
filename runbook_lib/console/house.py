"""What every route reaches through the application's state: settings, pages, and the context behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import Request

from runbook_lib.console.access_log import AccessLog
from runbook_lib.console.admission import Admission, Caller
from runbook_lib.console.answers import Answers
from runbook_lib.console.figures import Overview
from runbook_lib.console.kept_diagnosis import KeptDiagnosis
from runbook_lib.console.liveness import Liveness
from runbook_lib.console.pages import Pages
from runbook_lib.console.sessions import Sessions
from runbook_lib.console.started_runs import StartedRuns
from runbook_lib.console.workplace import Workplace
from runbook_lib.credentials.console_tokens import Tokens
from runbook_lib.health.context import Context
from runbook_lib.settings import Settings


@dataclass(frozen=True)
class House:
    """One console and its parts."""

    settings: Settings
    workplace: Workplace
    tokens: Tokens
    sessions: Sessions
    admission: Admission
    pages: Pages
    answers: Answers
    log: AccessLog
    liveness: Liveness
    overview: Overview
    runs: StartedRuns
    diagnosis: KeptDiagnosis

    @property
    def secure(self) -> bool:
        """Whether browsers come by https, so that cookies may insist on it."""
        return (self.settings.runbook_public_url or "").startswith("https://")


def house_of(request: Request) -> House:
    return cast(House, request.app.state.house)


def context_of(request: Request) -> Context:
    """The context. Raises why there is none now, which is answered in words."""
    return house_of(request).workplace.context()


def caller_of(request: Request) -> Caller:
    """Who calls; the gate has let nobody in who is not known."""
    return cast(Caller, request.state.caller)


def fields_of(request: Request) -> dict[str, str]:
    """The fields of a form, without white space around them."""
    return {name: value.strip() for name, value in request.state.fields.items()}


# What the functions behind routes take; FastAPI fills them in.
TheHouse = Annotated[House, Depends(house_of)]
TheContext = Annotated[Context, Depends(context_of)]
TheCaller = Annotated[Caller, Depends(caller_of)]
Fields = Annotated[dict[str, str], Depends(fields_of)]
