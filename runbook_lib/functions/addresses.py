"""The `curl` line of a function: what to type where there is no workbench."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from runbook_lib.credentials.console_tokens import console_address
from runbook_lib.functions.calling import required_scope
from runbook_lib.settings import Settings

PATH = "/functions/v1"


def curl_line(settings: Settings, name: str, data: Mapping[str, Any] | None, method: str) -> str:
    """The line for a shell. The token stands in it by the name of its variable, never by its value."""
    scope = required_scope(name, method, data)
    token = (
        "" if name == "health" else f' -H "Authorization: Bearer $RUNBOOK_{scope.upper()}_TOKEN"'
    )
    address = f"{console_address(settings)}{PATH}/{name}"
    if method == "GET":
        return f"curl -sS{token} {shlex.quote(address)}"
    body = shlex.quote(json.dumps(dict(data or {}), ensure_ascii=False))
    return f"curl -sS -X POST{token} -H 'Content-Type: application/json' -d {body} {shlex.quote(address)}"
