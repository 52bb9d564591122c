"""Faults that both stand-ins share: plain statuses, pages, and what happens to an answer on its way."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

from runbook_lib.sandbox.faults import Fault
from runbook_lib.sandbox.messages import Delivery, Response

PHP_WARNING = (
    "<br />\n<b>Warning</b>:  Undefined variable $x in "
    "<b>/var/www/html/wp-content/plugins/old/old.php</b> on line <b>12</b><br />\n"
)
CAPTIVE_PAGE = "<html><head><title>Sign in to the network</title></head><body><h1>Welcome</h1><p>Please accept the terms to go on.</p></body></html>"


def answer(fault: Fault) -> Response | None:
    """The answer that a fault gives before any work, or None."""
    if fault.kind == "status":
        return plain_status(
            fault.option("status"), fault.option("body"), fault.option("retry_after")
        )
    if fault.kind == "html":
        return Response.of_html(200, CAPTIVE_PAGE)
    if fault.kind == "reset":
        return unanswered("reset")
    if fault.kind == "black_hole":
        return unanswered("silence", fault.option("silence_seconds"))
    return None


def on_its_way(fault: Fault | None, response: Response) -> Response:
    """What a fault of the group `delivery` makes of the work's answer."""
    if fault is None:
        return response
    if fault.kind == "drip":
        return response.delivered(
            Delivery("drip", interval_seconds=fault.option("interval_seconds"))
        )
    if fault.kind == "cut_body":
        return response.delivered(Delivery("cut"))
    if fault.kind == "garbled_json":
        return replace(response, body=response.body[: len(response.body) * 2 // 3] + b'\x00"}}]')
    if fault.kind == "notice":
        return replace(response, body=PHP_WARNING.encode() + response.body)
    return response


def plain_status(status: int, body: str, retry_after: object = None) -> Response:
    """A status as a proxy in front gives it; `body` is html, json or empty."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if body == "empty":
        return Response(status, b"", headers)
    if body == "json":
        refusal = {"code": "injected", "message": "injected", "data": {"status": status}}
        return Response.of_json(status, refusal, headers)
    try:
        title = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        title = f"{status} Error"
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    return Response.of_html(status, page, headers)


def unanswered(way: str, silence_seconds: float = 3600) -> Response:
    """No answer at all: the connection reset, or left silent."""
    return Response(0, delivery=Delivery(way, silence_seconds=silence_seconds))


def delay_seconds(fault: Fault | None) -> float:
    """How long an answer waits before it goes."""
    return (
        float(fault.option("delay_seconds"))
        if fault is not None and fault.kind == "latency"
        else 0.0
    )
