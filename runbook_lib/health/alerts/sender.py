"""The process that sends messages to one address: it is killed when one takes too long.

Apprise's own time-outs are for each read, and some services need several requests: only a process can
be ended for certain. It says `ready`; then each line on standard input is a message with its address, never an argument;
each is answered by a line on standard output. `python -m runbook_lib.health.alerts.sender`.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from runbook_lib import known_secrets
from runbook_lib.credentials.masking import one_line

READY = "ready"
_TYPES = {"info": "info", "success": "success", "warning": "warning", "critical": "failure"}
# What apprise says of a broken connection only when it is asked for details.
_CONNECTION_DETAIL = "Socket Exception: "


def main() -> int:
    import apprise

    # Loads every service, which takes a second, before any message's time runs.
    apprise.Apprise.instantiate("json://localhost")
    complaints = Complaints()
    print(READY, flush=True)
    for line in sys.stdin:
        complaints.clear()
        reason = send(json.loads(line), complaints)
        print(json.dumps({"arrived": reason is None, "reason": reason}), flush=True)
    return 0


def send(message: dict[str, Any], complaints: Complaints) -> str | None:
    """Hands one message to the service of its address; None, or why it did not arrive."""
    import apprise

    known_secrets.register_service_address(message["url"], "RUNBOOK_ALERT_URLS")
    try:
        service = apprise.Apprise.instantiate(message["url"], suppress_exceptions=False)
    except Exception as error:
        return one_line(f"The address does not fit its service: {error}")
    if service is None:
        return "No service is known for this address, or a part of it is missing."
    if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE
    with tempfile.TemporaryDirectory() as directory:
        try:
            arrived = service.notify(
                body=message["body"], title=message["title"],
                notify_type=apprise.NotifyType(_TYPES[message["severity"]]),
                body_format=apprise.NotifyFormat.TEXT,
                attach=_attachment(service, message, Path(directory)),
            )  # fmt: skip
        except Exception as error:
            return one_line(f"{type(error).__name__}: {error}")
    return None if arrived else complaints.told()


def _attachment(service: Any, message: dict[str, Any], directory: Path) -> Any:
    """The chart, for services that take attachments."""
    from apprise import AppriseAttachment

    if not message.get("chart") or not service.attachment_support:
        return None
    file = directory / "chart.png"
    file.write_bytes(base64.b64decode(message["chart"]))
    return AppriseAttachment(str(file))


class Complaints(logging.Handler):
    """Keeps what apprise complained about, without secrets."""

    def __init__(self) -> None:
        super().__init__()
        self._last = self._detail = ""
        logger = logging.getLogger("apprise")
        logger.addHandler(self)
        logger.setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._last = one_line(record.getMessage(), 200)
        elif record.msg.startswith(_CONNECTION_DETAIL):
            self._detail = _reason(record.getMessage().removeprefix(_CONNECTION_DETAIL))

    def clear(self) -> None:
        self._last = self._detail = ""

    def told(self) -> str:
        said = " ".join(filter(None, [self._last, self._detail]))
        return said or "The service did not take it and gave no reason."


def _reason(detail: str) -> str:
    """The innermost reason alone: what stands before it has the address in it."""
    return one_line(detail.rpartition(": ")[2].strip("\"')>} "), 200)


if __name__ == "__main__":
    sys.exit(main())
