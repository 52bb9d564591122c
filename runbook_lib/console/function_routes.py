"""The written runbook's functions over HTTP: the same answers as `runbook function NAME`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runbook_lib.console.admission import FUNCTIONS as PATH
from runbook_lib.console.admission import Caller, Refused
from runbook_lib.console.function_schemas import described, require_types
from runbook_lib.console.house import House, TheHouse, caller_of, house_of
from runbook_lib.errors import UsageError
from runbook_lib.functions import FUNCTIONS, Function, call, required_scope
from runbook_lib.functions.addresses import curl_line

router = APIRouter()


def _add_routes(function: Function) -> None:
    for method in ("GET", "POST"):
        router.add_api_route(
            f"{PATH}{function.name}",
            _answer_of(function.name),
            methods=[method],
            operation_id=f"{function.name.replace('-', '_')}_{method.lower()}",
            summary=function.summary,
            tags=["functions"],
            response_class=JSONResponse,
            openapi_extra=described(function, method),
        )


def _answer_of(name: str) -> Any:
    def answer(request: Request, house: TheHouse) -> Response:
        caller: Caller | None = request.state.caller
        if caller is None:
            return _liveness_of(house)
        return answer_function(request, name, caller)

    return answer


def answer_function(request: Request, name: str, caller: Caller) -> Response:
    """Calls a function for somebody who was let in, if their token allows it."""
    house = house_of(request)
    method = request.scope["method"]
    try:
        data = _given(request, name)
    except UsageError as error:
        return JSONResponse({"error": str(error)}, 400)
    if required_scope(name, method, data) == "write" and not caller.may_write:
        base = house.settings.runbook_public_url or f"{request.url.scheme}://{request.url.netloc}"
        addressed = house.settings.model_copy(update={"runbook_public_url": base})
        raise Refused(
            403, "This changes or costs something, and needs the write token.",
            curl=curl_line(addressed, name, data, method),
        )  # fmt: skip
    answer = call(name, data, method=method, context=house.workplace.context(), actor=caller.actor)
    return JSONResponse(answer.body, answer.status)


def _liveness_of(house: House) -> Response:
    well = house.liveness.look(house.workplace)
    return JSONResponse({"status": "ok" if well else "unavailable"}, 200 if well else 503)


def _given(request: Request, name: str) -> dict[str, Any]:
    """What a function is given: a JSON object in the body, else the query. Raises `UsageError`."""
    pairs = parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=100)
    given: dict[str, Any] = dict(pairs)
    if len(given) < len(pairs):
        raise UsageError("An option is given twice in the address.")
    body: bytes = request.state.body
    if body.strip() and request.scope["method"] != "GET":
        found = _object(body)
        require_types(name, found)
        if twice := sorted(given.keys() & found.keys()):
            raise UsageError(f"{', '.join(twice)} is given in the address and in the body.")
        given |= found
    _require_storable(given)
    return given


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The body is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise UsageError('The body must be a JSON object, such as {"dry_run": true}.')
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that JSON knows")


def _require_storable(given: Mapping[str, Any]) -> None:
    """PostgreSQL takes neither NUL nor half a character."""
    text = json.dumps(given, ensure_ascii=False)
    if "\\u0000" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("A text holds a NUL or half a character, which no text here can hold.")


def unknown_function(request: Request, name: str) -> Response:
    """A name that no function has: the answer says which there are."""
    return answer_function(request, name, caller_of(request))


for _function in FUNCTIONS.values():
    _add_routes(_function)
# After those that there are: a router takes the first that fits.
router.add_api_route(
    f"{PATH}{{name}}", unknown_function, methods=["GET", "POST"], include_in_schema=False
)
