"""Signing in and out, and the console's own files."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runbook_lib.console.admission import Refused
from runbook_lib.console.house import Fields, House, TheHouse
from runbook_lib.console.pages import static_files
from runbook_lib.console.sessions import SESSION_SECONDS
from runbook_lib.credentials.console_tokens import Login, redeem_login

router = APIRouter(include_in_schema=False)
_LONGEST_NAME = 60


@router.get("/login")
def login_page(request: Request, house: TheHouse, to: str = "/") -> Response:
    return house.pages.show(
        request, "login.html.j2", title="Sign in", to=_inside(to), problem="", again=False
    )


@router.post("/login")
def log_in(request: Request, house: TheHouse, fields: Fields) -> Response:
    """Exchanges a token for a cookie. The token of a link is used up; a lasting one needs a name."""
    login = _login(house, fields)
    if login is None:
        refused = house.admission.wrong_token_at_login(
            request.client.host if request.client else "-"
        )
        if refused.status == 429:
            raise refused
        return house.pages.show(
            request, "login.html.j2", status=401, title="Sign in", to=_inside(fields.get("to", "/")),
            problem=refused.message, again=False,
        )  # fmt: skip
    _, cookie = house.sessions.begin(login.actor, login.scope)
    response = RedirectResponse(_inside(fields.get("to", "/")), 303)
    response.set_cookie(
        house.sessions.cookie, cookie, max_age=SESSION_SECONDS, httponly=True, samesite="strict",
        secure=house.secure,
    )  # fmt: skip
    return response


@router.post("/logout")
def log_out(house: TheHouse) -> Response:
    response = RedirectResponse("/login", 303)
    response.delete_cookie(
        house.sessions.cookie, httponly=True, samesite="strict", secure=house.secure
    )
    return response


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    if name not in static_files():
        raise HTTPException(404)
    content, media_type = static_files()[name]
    # Its address holds its digest.
    kept = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=media_type, headers=kept)


def _login(house: House, fields: dict[str, str]) -> Login | None:
    token = fields.get("token", "").rpartition("#")[2]  # a whole link may be pasted
    scope = house.admission.scope_of(token)
    if scope is None:
        return redeem_login(house.settings, token) if token else None
    name = fields.get("actor", "")[:_LONGEST_NAME]
    if not name:
        raise Refused(400, "Say who you are: your name goes into the record of what you do.")
    return Login(name, scope)


def _inside(address: str) -> str:
    """An address of this console only: a link must not lead through the login to another site."""
    parts = urlsplit(address.replace("\\", "/"))
    inside = (
        not parts.scheme and not parts.netloc and address.startswith("/") and address.isprintable()
    )
    return address if inside and not address.startswith(("//", "/login")) else "/"
