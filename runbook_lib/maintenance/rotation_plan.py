"""How one credential's rotation stands and goes on: each step, whether it is done, and what to type."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.maintenance.secret_stores import BY_ENVIRONMENT, in_environment, store_of

if TYPE_CHECKING:
    from runbook_lib.health.tables import Table
    from runbook_lib.maintenance.rotation import Rotation

State = Literal["done", "next", "later"]


@dataclass(frozen=True)
class Step:
    """One step of a rotation. `command` is what a person types; no value is in it."""

    step: str
    state: State
    what: str
    command: str


@dataclass(frozen=True)
class RotationPlan:
    """All steps in their order. `live` is False where a restart is needed; `words` then says how."""

    name: str
    live: bool
    words: str
    steps: tuple[Step, ...]

    @property
    def check(self) -> Check:
        """Whether it can be done while jobs run."""
        return Check(
            f"secrets.{self.name.lower()}.plan", "ok" if self.live else "warning", self.words
        )

    @property
    def table(self) -> Table:
        import pandas

        from runbook_lib.health.tables import Table

        rows = [vars(step) for step in self.steps]
        return Table(pandas.DataFrame(rows, columns=["step", "state", "what", "command"]))

    def results(self) -> dict[str, Any]:
        return {"name": self.name, "live": self.live, "words": self.words, "steps": [vars(step) for step in self.steps]}  # fmt: skip

    def __repr__(self) -> str:
        lines = [f"{number}. [{step.state}] {step.what}\n     {step.command}" for number, step in enumerate(self.steps, 1)]  # fmt: skip
        return "\n".join([self.words, *lines])

    def _repr_html_(self) -> str:
        verdict = "ok" if self.live else "warning"
        return f'<div class="verdict verdict-{verdict}"><p>{html.escape(self.words)}</p></div>{self.table._repr_html_()}'  # fmt: skip


def rotation_plan(rotation: Rotation) -> RotationPlan:
    """Looks where a rotation stands. Only reads; never raises for what it finds."""
    live, words = _live(rotation)
    staged = rotation.waiting.find("staged", rotation.name)
    earlier = rotation.waiting.find("earlier", rotation.name)
    replaced = earlier is not None and earlier.handle != rotation.present_handle()
    reached = 1 if staged is not None else 3 if replaced else 0
    steps = _steps(rotation.name, live)
    return RotationPlan(
        rotation.name, live, words,
        tuple(
            Step(step, "done" if at < reached else "next" if at == reached else "later", what, command)
            for at, (step, what, command) in enumerate(steps)
        ),
    )  # fmt: skip


def _live(rotation: Rotation) -> tuple[bool, str]:
    name = rotation.name
    try:
        store = store_of(rotation.settings, name)
        users = rotation.users()
    except RunbookError as error:
        return False, one_line(str(error), 500)
    fixed = [user.worker for user in users if user.from_environment]
    if fixed or (not users and in_environment(name)):
        who = ", ".join(fixed[:3]) if fixed else "This process"
        return False, f"{who}: {name} comes from the environment, so it cannot be rotated live. {BY_ENVIRONMENT}"  # fmt: skip
    if not store.followed:
        return True, f"{name} goes to {store.title}; functions that start afterwards have it."
    return True, f"{name} goes to {store.title}; {len(users)} running workers take it up within seconds, without a restart."  # fmt: skip


def _steps(name: str, live: bool) -> list[tuple[str, str, str]]:
    making = {
        "OPENAI_API_KEY": "Make a second key on the platform's page of API keys; leave the old one.",
        "OPENAI_ADMIN_KEY": "Make a second admin key in the organization's settings; leave the old one.",
        "WORDPRESS_APP_PASSWORD": "Make a second application password (--generate does); leave the old one.",
        "DATABASE_URL": "Make a new password (--generate does); it is not set at the server yet.",
    }
    at_server = " --set-at-server" if name == "DATABASE_URL" else ""
    generate = " --generate" if name in ("WORDPRESS_APP_PASSWORD", "DATABASE_URL") else ""
    in_use = [
        ("activate", "Test it again, and put it in use.", f"runbook secrets activate {name}{at_server}"),
        ("verify", "Wait until every running worker has it.", f"runbook secrets verify {name} --wait 60"),
    ]  # fmt: skip
    by_restart = [
        ("activate", "Put it where the environment comes from.", "edit the unit or the container's secret"),
        ("verify", "Drain and start one worker after another.", "runbook workers drain WORKER"),
    ]  # fmt: skip
    return [
        ("stage", making[name], f"runbook secrets stage {name}{generate}"),
        ("test", "Ask the provider with it. Costs nothing." if not at_server else "Once it is set at the server, a new connection must open.", f"runbook secrets test {name}"),
        *(in_use if live else by_restart),
        ("retire", "Revoke the old one, and see that it is refused.", f"runbook secrets retire {name}" + (" --revoke" if name == "WORDPRESS_APP_PASSWORD" else "")),
    ]  # fmt: skip
