"""What every check, figure and function works on: settings, policy and the two databases."""

from __future__ import annotations

from dataclasses import dataclass

from runbook_lib.health.sources import Sources, open_sources
from runbook_lib.policy import Policy, load_policy
from runbook_lib.settings import Settings


@dataclass(frozen=True)
class Context:
    """Settings, policy and sources of one process; closing lets go of the databases.

    `refreshes`: the rollup may be brought up to date before it is read. Whoever promises to change nothing
    reads it as it is.
    """

    settings: Settings
    policy: Policy
    sources: Sources
    refreshes: bool = True

    def close(self) -> None:
        self.sources.close()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_context(
    settings: Settings, application_name: str = "runbook", *, require_schema: bool = True
) -> Context:
    """Opens the context. Raises `ConfigurationError` and what `open_sources` raises.

    Without `require_schema` no connection is made yet: for what must answer, and say what is wrong,
    while the database is down.
    """
    sources = open_sources(settings, application_name, require_schema=require_schema)
    return Context(settings, load_policy(settings), sources)
