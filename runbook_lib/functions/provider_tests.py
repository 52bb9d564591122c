"""`openai-failure-test` and `wordpress-test`: whether the providers can be used, at no cost."""

from __future__ import annotations

from typing import Any

from runbook_lib.functions.calling import Call
from runbook_lib.health.survey import survey


def openai_failure_test(call: Call) -> dict[str, Any]:
    """Name, connection, certificate, key, model: everything short of a paid request."""
    return survey(call.context, only=["openai"]).as_dictionary()


def wordpress_test(call: Call) -> dict[str, Any]:
    """Name, connection, certificate, REST API, login, rights, categories: everything short of a post."""
    return survey(call.context, only=["wordpress"]).as_dictionary()
