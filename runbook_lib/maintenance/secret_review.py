"""The review of keys and passwords: what there is, how old, who uses it, whether it works, where it stands."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.credentials.names import NAMES
from runbook_lib.credentials.staging import Waiting
from runbook_lib.credentials.store import Credentials, InUse
from runbook_lib.database.connection import Database, UnavailableDatabase
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.env_file import EnvFile
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.maintenance.secret_stores import store_of
from runbook_lib.maintenance.secret_tests import ABOUT_THE_VALUE, tested, wordpress_client
from runbook_lib.maintenance.secret_users import judge_use, users_of
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.policy import Policy, load_policy
from runbook_lib.settings import Settings, load_settings

_SQL = load("secrets")
PROCEDURE = "monthly/secret_rotation"
_NONE_SET = "No credential is set: the sandbox stands in for both providers."
EXPIRY_WARNING_DAYS = 14.0
STAGED_WARNING_DAYS = 7.0


@dataclass(frozen=True)
class SecretState:
    """What is known of one credential. Times are None where nobody tells them; `age_source` says who did."""

    name: str
    kept_in: str
    handle: str | None
    set_at: datetime | None = None
    age_source: str | None = None
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    workers: int = 0
    staged: str | None = None
    earlier: str | None = None
    checks: tuple[Check, ...] = ()

    @property
    def age_days(self) -> float | None:
        if self.set_at is None:
            return None
        return round((datetime.now(UTC) - self.set_at).total_seconds() / 86_400, 1)

    @property
    def verdict(self) -> str:
        return worst_verdict(self.checks)


@dataclass(frozen=True)
class SecretReview(Answer):
    """All credentials; shown in a notebook, it is the answer. No value is in it."""

    check: Check
    states: tuple[SecretState, ...]
    checks: tuple[Check, ...]

    @property
    def ages(self) -> Table:
        """How old each credential is and who told so, when it was last used, when it ends."""
        return _table(
            [
                (each.name, each.age_days, each.age_source, each.last_used_at, each.expires_at)
                for each in self.states
            ],
            ["name", "age_days", "told_by", "last_used", "expires"],
            empty=_NONE_SET,
        )

    @property
    def holders(self) -> Table:
        """Where each is kept, its handle, how many running workers have it, and which values wait."""
        return _table(
            [
                (each.name, each.kept_in, each.handle, each.workers, each.staged or "–", each.earlier or "–")
                for each in self.states
            ],
            ["name", "kept_in", "handle", "workers", "staged", "not_retired"],
            empty=_NONE_SET,
        )  # fmt: skip

    @property
    def findings(self) -> Table:
        """What is not well, the worst first."""
        order = ("critical", "warning", "not_allowed", "not_enough_data")
        found = sorted(
            (each for each in self.checks if each.verdict != "ok"),
            key=lambda each: order.index(each.verdict),
        )
        return _table(
            [(each.verdict, each.message, each.next) for each in found],
            ["verdict", "finding", "what_to_do"],
            empty="Nothing: every credential works, is young enough and is used by every worker.",
        )

    @property
    def commands(self) -> Table:
        """What to type for each credential that should be rotated. The value is asked for."""
        due = [
            each for each in self.states if each.handle and each.verdict in ("warning", "critical")
        ]
        return _table(
            [(each.name, f"runbook secrets rotate {each.name}", f"runbook secrets retire {each.name}") for each in due],
            ["name", "first", "when_all_workers_have_it"],
            empty="None has to be rotated now.",
        )  # fmt: skip

    def results(self) -> dict[str, Any]:
        return {
            "secrets": {
                each.name: {
                    "kept_in": each.kept_in, "handle": each.handle, "age_days": each.age_days,
                    "age_source": each.age_source, "last_used_at": each.last_used_at,
                    "expires_at": each.expires_at, "workers": each.workers, "staged": each.staged,
                    "earlier": each.earlier, "verdict": each.verdict,
                }
                for each in self.states
            },
            "findings": [each.message for each in self.checks if each.verdict in ("warning", "critical")],
        }  # fmt: skip


def secret_review(sources: Sources, *, test: bool = True) -> SecretReview:
    """Reviews every credential; `test` asks the providers whether the present values still work.

    Only reads, costs nothing, and never raises: what cannot be had is said.
    """
    try:
        settings = load_settings()
        policy = load_policy(settings)
    except RunbookError as error:
        check = Check("secrets.review", "not_enough_data", one_line(str(error), 500), next="`runbook doctor`")  # fmt: skip
        return SecretReview(check, (), (check,))
    problem, database = None, sources.bookkeeping
    if (words := _database_problem(database)) is not None:
        problem = Check("secrets.records", "not_enough_data", words, next="`runbook doctor`")
    states = secret_states(settings, policy, database if problem is None else None, test=test)
    checks = [*_file_checks(settings), *(check for state in states for check in state.checks)]
    if problem is not None:
        checks.append(problem)
    return SecretReview(_overall(states, checks, problem), tuple(states), tuple(checks))


def secret_states(
    settings: Settings, policy: Policy, database: Database | None, *, test: bool
) -> list[SecretState]:
    """Every credential that is set. Without a database nothing is known of ages and users."""
    try:
        in_use = Credentials(settings).in_use()
    except RunbookError:
        in_use = {}
    known = _Records(database)
    return [
        _state(settings, policy, database, known, name, in_use[name], test)
        for name in NAMES
        if name in in_use
    ]


def _state(
    settings: Settings, policy: Policy, database: Database | None, known: _Records,
    name: str, used: InUse, test: bool,
) -> SecretState:  # fmt: skip
    waiting = Waiting(settings.runbook_home)
    staged, earlier = waiting.find("staged", name), waiting.find("earlier", name)
    state = SecretState(
        name, _kept_in(settings, name, used), used.handle,
        last_used_at=known.last_used.get((name, used.handle)),
        staged=staged.handle if staged else None,
        earlier=earlier.handle if earlier and earlier.handle != used.handle else None,
    )  # fmt: skip
    state = _with_age(state, settings, known)
    checks: list[Check] = []
    if test:
        checks.append(_works(settings, name))
    if name == "DATABASE_URL" and database is not None:
        state = replace(state, expires_at=known.valid_until)
    if database is not None and name != "OPENAI_ADMIN_KEY":
        users = users_of(database, name)
        state = replace(state, workers=len(users))
        checks.append(judge_use(name, users, used.handle, socket.gethostname()))
    checks += _age_checks(state, policy)
    if staged is not None and (datetime.now(UTC) - staged.kept_at).days >= STAGED_WARNING_DAYS:
        checks.append(Check(f"secrets.{name.lower()}.staged", "warning", f"{staged.handle} has been staged for {name} since {staged.kept_at:%Y-%m-%d} and was never activated.", next=f"`runbook secrets activate {name}`, or `runbook secrets stage {name} --discard`."))  # fmt: skip
    if state.earlier is not None:
        checks.append(Check(f"secrets.{name.lower()}.earlier", "warning", f"{state.earlier}, an earlier value of {name}, was never retired: it may still open the door.", next=f"`runbook secrets retire {name}`"))  # fmt: skip
    return replace(state, checks=tuple(checks))


class _Records:
    """What our own tables tell of ages and uses."""

    def __init__(self, database: Database | None) -> None:
        self.first_seen: dict[tuple[str, str], datetime] = {}
        self.activated: dict[tuple[str, str], datetime] = {}
        self.last_used: dict[tuple[str, str], datetime] = {}
        self.valid_until: datetime | None = None
        if database is None:
            return
        with database.transaction(read_only=True) as transaction:
            for row in transaction.rows(_SQL["first_seen"], names=list(NAMES)):
                self.first_seen[row.name, row.handle] = row.first_seen_at
            for row in transaction.rows(_SQL["activations"]):
                self.activated.setdefault((row.name, row.handle), row.ended_at)
            for row in transaction.rows(_SQL["last_used"]):
                self.last_used[row.name, row.handle] = row.used_at
            role = transaction.row(_SQL["role_valid_until"])
            self.valid_until = role.valid_until if role else None


def _with_age(state: SecretState, settings: Settings, known: _Records) -> SecretState:
    """The age, told by the one who knows best: the provider, the store, our own record, our first sight."""
    key = (state.name, state.handle or "")
    if state.name == "WORDPRESS_APP_PASSWORD" and (told := _told_by_the_site(settings)):
        return replace(state, set_at=told[0], age_source="WordPress", last_used_at=told[1] or state.last_used_at)  # fmt: skip
    if key in known.activated:
        return replace(state, set_at=known.activated[key], age_source="its activation here")
    try:
        set_at = store_of(settings, state.name).set_at(state.name)
    except RunbookError:
        set_at = None
    if set_at is not None:
        return replace(state, set_at=set_at, age_source="its store")
    if key in known.first_seen:
        return replace(state, set_at=known.first_seen[key], age_source="a worker, at least so old")
    return state


def _told_by_the_site(settings: Settings) -> tuple[datetime, datetime | None] | None:
    try:
        value = Credentials(settings).credential("WORDPRESS_APP_PASSWORD").get_secret_value()
        with wordpress_client(settings, value) as client:
            found = client.application_password(Deadline.after(10))
    except (RunbookError, JobFailed):
        return None
    created = _utc(found.created)
    return (created, _utc(found.last_used)) if created else None


def _utc(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _kept_in(settings: Settings, name: str, used: InUse) -> str:
    return used.origin if used.origin != ".env" else str(settings.env_file or ".env")


def _works(settings: Settings, name: str) -> Check:
    """Whether the present value works; that nobody could be asked says nothing against it."""
    check = f"secrets.{name.lower()}.works"
    try:
        found = tested(settings, name, Credentials(settings).credential(name).get_secret_value())
    except RunbookError as error:
        return Check(check, "not_enough_data", f"{name}: {error}")
    told = replace(found, name=check, message=f"{name}: {found.message}")
    if found.verdict == "critical" and found.details["step"] not in ABOUT_THE_VALUE:
        return replace(told, verdict="not_enough_data")
    return told


def _age_checks(state: SecretState, policy: Policy) -> Iterable[Check]:
    limit, name = policy.thresholds.secret_age_warning_days, f"secrets.{state.name.lower()}.age"
    if state.expires_at is not None:
        days = (state.expires_at - datetime.now(UTC)).total_seconds() / 86_400
        verdict = "critical" if days < 0 else "warning" if days < EXPIRY_WARNING_DAYS else "ok"
        words = f"The role of {state.name} may log in until {state.expires_at:%Y-%m-%d %H:%M} UTC."
        yield Check(f"secrets.{state.name.lower()}.expiry", verdict, words, round(days, 1), "days", EXPIRY_WARNING_DAYS, _SQL["role_valid_until"].source, next="Prolong it: ALTER ROLE … VALID UNTIL, or rotate." if verdict != "ok" else None)  # type: ignore[arg-type]  # fmt: skip
    if state.age_days is None:
        yield Check(name, "not_enough_data", f"Nobody tells how old {state.name} is: it was never rotated from here, and no worker with it has run.", next="Its provider's page may tell.")  # fmt: skip
        return
    old = state.age_days > limit
    yield Check(
        name, "warning" if old else "ok",
        f"{state.name} is {state.age_days:g} days old (told by {state.age_source}).",
        state.age_days, "days", limit, "secrets.activations",
        next=f"Rotate it: `runbook secrets rotate {state.name}`." if old else None,
        procedure=PROCEDURE if old else None,
    )  # fmt: skip


def _file_checks(settings: Settings) -> Iterable[Check]:
    file = EnvFile(settings.env_file) if settings.env_file is not None else None
    if file is not None and file.readable_by_others():
        yield Check("secrets.file", "warning", f"Others on this host may read {file.path}.", next=f"chmod 600 {file.path}")  # fmt: skip


def _overall(states: list[SecretState], checks: list[Check], problem: Check | None) -> Check:
    if problem is not None:
        return replace(problem, name="secrets.review")
    if not states:
        return Check("secrets.review", "ok", "No credential is set: the embedded database and the sandbox need none.", source="settings")  # fmt: skip
    verdict = worst_verdict(checks)
    if verdict in ("warning", "critical"):
        found = [check for check in checks if check.verdict in ("warning", "critical")]
        worst = next(check for check in found if check.verdict == verdict)
        more = f" And {len(found) - 1} more." if len(found) > 1 else ""
        return replace(worst, name="secrets.review", message=worst.message + more, procedure=None)
    oldest = max((state.age_days for state in states if state.age_days is not None), default=None)
    age = f"; the oldest is {oldest:g} days old" if oldest is not None else ""
    return Check("secrets.review", "ok", f"{len(states)} credentials work and are used by every worker{age}.", len(states), "credentials", source="secrets.activations")  # fmt: skip


def _database_problem(database: Database) -> str | None:
    try:
        with database.transaction(read_only=True) as transaction:
            transaction.row(_SQL["role_valid_until"])
    except (RunbookError, psycopg2.Error) as error:
        return one_line(str(error).splitlines()[0], 500)
    return None if not isinstance(database, UnavailableDatabase) else str(database.reason)


def _table(rows: list[tuple[Any, ...]], columns: list[str], *, empty: str) -> Table:
    import pandas

    return Table(pandas.DataFrame(rows, columns=columns), absent="not known", empty=empty)
