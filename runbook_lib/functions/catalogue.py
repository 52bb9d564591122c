"""The functions that there are: name, what they take, what they need."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from runbook_lib.functions.requests import (
    ContentAutomation,
    Monitoring,
    NoOptions,
    OpenAITest,
    Performance,
    Request,
    Sweeper,
    WordPressTest,
)

Scope = Literal["read", "write"]


@dataclass(frozen=True)
class Function:
    """One function. `handler` is `module:function`, imported when it is called."""

    name: str
    summary: str
    request: type[Request]
    handler: str

    def load(self) -> Callable[..., dict[str, Any]]:
        module, _, attribute = self.handler.partition(":")
        found: Callable[..., dict[str, Any]] = getattr(
            importlib.import_module(f"runbook_lib.functions.{module}"), attribute
        )
        return found


FUNCTIONS: dict[str, Function] = {
    each.name: each
    for each in (
        Function("health", "Whether the system works: every check, within five seconds.", NoOptions, "health:health"),
        Function("monitoring", "How the pipeline is: checks, queue, failures by day and by kind.", Monitoring, "figures:monitoring"),
        Function("metrics", "Figures: success by day, durations, queue, tokens and cost.", Monitoring, "figures:metrics"),
        Function("sweeper", "Takes back jobs whose worker vanished. GET and dry_run only show them.", Sweeper, "sweeper:sweeper"),
        Function("openai-failure-test", "Whether OpenAI can be used, without a paid token.", OpenAITest, "provider_tests:openai_failure_test"),
        Function("wordpress-test", "Whether articles can be published, without writing one.", WordPressTest, "provider_tests:wordpress_test"),
        Function("performance-monitor", "How long things take: p50, p95, p99 by stage, provider, function and statement.", Performance, "performance:performance_monitor"),
        Function("content-automation", "Tests the credentials, adds a topic, or says where jobs are.", ContentAutomation, "content_automation:content_automation"),
    )
}  # fmt: skip
