"""Rotation of one credential: stage → test → activate → verify → retire.

The value is given once, to `stage`; from then on it is known by its handle. Workers take a new value up
without a restart, so both values must be valid until every worker has the new one: the old one is
revoked last. Errors, records and results hold handles only.
"""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from psycopg2.extensions import encrypt_password

from runbook_lib.changes import admin_action
from runbook_lib.credentials.handles import handle_of
from runbook_lib.credentials.names import NAMES
from runbook_lib.credentials.shapes import cleaned, require_name
from runbook_lib.credentials.staging import KeptValue, Waiting
from runbook_lib.credentials.store import EMBEDDED, Credentials, origin_of
from runbook_lib.database.connection import Database, normalise_url, quoted_name
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import (
    ConfigurationError,
    CouldNotBeDone,
    DatabaseUnreachable,
    PlanRefused,
    UsageError,
)
from runbook_lib.health.checks import Check
from runbook_lib.maintenance.secret_stores import (
    BY_ENVIRONMENT,
    SecretStore,
    in_environment,
    store_of,
)
from runbook_lib.maintenance.secret_tests import tested, wordpress_client
from runbook_lib.maintenance.secret_users import User, judge_use, users_of
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.settings import Settings

GENERATED_BYTES = 24
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Activated:
    """What an activation did. `stored` says where the value went and how that was verified."""

    name: str
    handle: str
    earlier_handle: str | None
    stored: str
    next: str

    def results(self) -> dict[str, Any]:
        return dict(vars(self))


class Rotation:
    """One credential's rotation. Each step is a call of its own; what waits between them is in files."""

    def __init__(self, settings: Settings, database: Database, name: str, actor: str) -> None:
        self.settings = settings
        self.database = database
        self.name = require_name(name)
        self.actor = actor
        self.waiting = Waiting(settings.runbook_home)

    # the value comes in

    def stage(self, text: str) -> KeptValue:
        """Takes a new value in. Raises `UsageError` for one that cannot be right, without showing it."""
        value = cleaned(self.name, text)
        handle = handle_of(self.name, value)
        if handle == self.present_handle():
            raise UsageError(f"This is the value that is in use already ({handle}). Nothing was staged.")  # fmt: skip
        with self.waiting.lock():
            return self.waiting.keep("staged", self.name, value, self.actor)

    def generate(self) -> KeptValue:
        """Makes a new value where that is possible: an application password at the site, a database password.

        The database's own is not changed yet: `activate(set_at_server=True)` does. Raises `UsageError`
        for a credential that only its provider's pages can make.
        """
        if self.name == "WORDPRESS_APP_PASSWORD":
            return self.stage(self._new_application_password())
        if self.name == "DATABASE_URL":
            return self.stage(_with_password(self._present(), secrets.token_urlsafe(GENERATED_BYTES)))  # fmt: skip
        raise UsageError(
            f"{self.name} cannot be made from here: make one on the platform's page of API keys, then stage it."
        )

    def discard(self) -> bool:
        """Forgets the staged value; whether there was one."""
        with self.waiting.lock():
            return self.waiting.forget("staged", self.name)

    # it is looked at

    def test(self) -> Check:
        """Asks the provider with the staged value; costs nothing and changes nothing."""
        staged = self._staged()
        found = tested(self.settings, self.name, staged.value)
        return replace(found, message=f"{staged.handle}: {found.message}")

    def users(self) -> list[User]:
        """The running workers that have this credential."""
        return users_of(self.database, self.name)

    def present_handle(self) -> str | None:
        """The handle of the value in use by this configuration; None when there is none."""
        try:
            return handle_of(self.name, self._present())
        except ConfigurationError:
            return None

    # it is put in use

    def activate(
        self,
        handle: str | None = None,
        *,
        back: bool = False,
        set_at_server: bool = False,
        reason: str | None = None,
        anyway: bool = False,
    ) -> Activated:
        """Puts the staged value in use, after it was tested once more; `back`: the one before again.

        `set_at_server` gives the database's role the new password first, as a verifier, so that no log
        has it. Raises `PlanRefused` when the value does not work or could not be taken up, or, unless that is
        meant `anyway`, while another rotation is on its way: then nothing was changed.
        """
        if not (back or anyway):
            self._require_one_at_a_time()
        with self.waiting.lock():
            chosen = self._earlier() if back else self._staged()
            if handle is not None and handle != chosen.handle:
                raise PlanRefused(f"{chosen.handle} waits for {self.name}, not {handle}. Nothing was changed.")  # fmt: skip
            store = self._usable_store()
            if set_at_server:
                self._require_same_user(chosen)
            else:
                self._require_right(chosen)
            with self._recorded("secrets.activate", chosen, reason) as action:
                earlier = self._keep_earlier(store)
                if set_at_server:
                    self._set_at_server(chosen)
                stored = store.write(self.name, chosen.value)
                action.before = {"handle": earlier}
                action.after = {"handle": chosen.handle, "store": store.title}
            if not back:
                self.waiting.forget("staged", self.name)
        return Activated(self.name, chosen.handle, earlier, stored, self._next_step(store))

    def verify(self, wait_seconds: float = 0) -> Check:
        """Whether every running worker has the present value; waits for them that long."""
        store = self._store_or_none()
        if store is not None and not store.followed:
            return Check(
                f"secrets.{self.name.lower()}.use", "not_enough_data",
                "Edge Functions tell nobody which value they have. Its digest was compared; call one of them: "
                "content-automation with the action test_credentials.",
                source="GET secrets",
            )  # fmt: skip
        stored = store.value(self.name) if store is not None else None
        handle = handle_of(self.name, stored) if stored else self.present_handle()
        if handle is None:
            return Check(f"secrets.{self.name.lower()}.use", "not_enough_data", f"{self.name} is not set.")  # fmt: skip
        until = time.monotonic() + wait_seconds
        while True:
            found = judge_use(self.name, self.users(), handle, socket.gethostname())
            if found.verdict != "critical" or time.monotonic() >= until:
                return found
            time.sleep(LOOK_SECONDS)

    # steps of the above

    def _present(self) -> str:
        embedded = self.settings.database_url is None or origin_of(self.name) == EMBEDDED
        if self.name == "DATABASE_URL" and embedded:
            raise ConfigurationError(
                "DATABASE_URL is not set: the embedded PostgreSQL makes its own password, and only this machine reaches it."
            )
        return Credentials(self.settings).credential(self.name).get_secret_value()

    def _staged(self) -> KeptValue:
        found = self.waiting.find("staged", self.name)
        if found is None:
            raise UsageError(f"Nothing is staged for {self.name}. `runbook secrets stage {self.name}` asks for it.")  # fmt: skip
        return found

    def _earlier(self) -> KeptValue:
        found = self.waiting.find("earlier", self.name)
        if found is None:
            raise UsageError(f"There is no earlier value of {self.name} to go back to: it was retired, or never replaced here.")  # fmt: skip
        return found

    def _usable_store(self) -> SecretStore:
        """The place to write to. Raises `PlanRefused` when nobody who runs would take the value up from there."""
        store = store_of(self.settings, self.name)
        if store.followed:
            self._present()  # a credential that nobody has is set up, not rotated
            users = self._users_if_reachable()
            fixed = [user for user in users if user.from_environment]
            if (users and len(fixed) == len(users)) or (not users and in_environment(self.name)):
                who = f"all {len(fixed)} running workers" if fixed else "this process"
                raise PlanRefused(
                    f"{self.name} was not activated: {who} have it from the environment. {BY_ENVIRONMENT}"
                )
        store.require_writable()
        return store

    def _store_or_none(self) -> SecretStore | None:
        try:
            return store_of(self.settings, self.name)
        except ConfigurationError:
            return None  # everything comes from the environment

    def _users_if_reachable(self) -> list[User]:
        try:
            return self.users()
        except DatabaseUnreachable:
            # With the database's password changed already, only the new value can ask.
            if self.name != "DATABASE_URL":
                raise
            return []

    def _require_one_at_a_time(self) -> None:
        """Two values that change at once cannot be told apart when something fails then."""
        for name in NAMES:
            if name == self.name or self.waiting.find("earlier", name) is None:
                continue
            found = Rotation(self.settings, self.database, name, self.actor).verify()
            if found.verdict == "critical":
                raise PlanRefused(
                    f"{self.name} was not activated: {name} is being rotated, and not every worker has its new value yet. "
                    f"{found.message} With several changed at once nobody can tell which one fails, and jobs in hand fail "
                    f"with them. `runbook secrets verify {name} --wait 60` first; a worker that does not take it up is "
                    "drained and started again. In an emergency: --anyway."
                )

    def _require_right(self, chosen: KeptValue) -> None:
        found = tested(self.settings, self.name, chosen.value)
        if found.verdict not in ("ok", "warning"):
            raise PlanRefused(
                f"{chosen.handle} was not activated, since it does not work: {found.message} "
                f"{found.next or ''} {self.name} stays as it is."
            )

    def _recorded(self, action: str, chosen: KeptValue, reason: str | None) -> Any:
        return admin_action(
            self._recording_database(chosen),
            actor=self.actor,
            action=action,
            target=self.name,
            reason=reason,
        )

    def _recording_database(self, chosen: KeptValue) -> Database:
        """Ours; when only the new password still opens it, by that."""
        if self.name != "DATABASE_URL" or self.settings.attached:
            return self.database
        try:
            self.database.connect().close()
        except DatabaseUnreachable:
            return Database(chosen.value, schema=self.settings.runbook_database_schema)
        return self.database

    def _keep_earlier(self, store: SecretStore) -> str | None:
        """Keeps the value that is replaced, so that it can be told when nobody takes it any more."""
        value = store.value(self.name)
        if value is None:
            try:
                value = self._present()
            except ConfigurationError:
                return None
        return self.waiting.keep("earlier", self.name, value, self.actor).handle

    def _next_step(self, store: SecretStore) -> str:
        if not store.followed:
            return f"Test the functions, then revoke the old value: `runbook secrets retire {self.name}`."
        return (
            f"`runbook secrets verify {self.name} --wait 60`; when all workers have it: "
            f"`runbook secrets retire {self.name}`. To go back until then: `runbook secrets activate {self.name} --back`."
        )

    # making values

    def _new_application_password(self) -> str:
        title = f"runbook {datetime.now(UTC):%Y-%m-%d %H:%M}"
        with (
            admin_action(
                self.database, actor=self.actor, action="secrets.generate", target=self.name
            ) as action,
            wordpress_client(self.settings, self._present()) as client,
        ):
            try:
                made = client.make_application_password(
                    title, Deadline.after(self.settings.runbook_wordpress_deadline_seconds)
                )
            except JobFailed as error:
                raise CouldNotBeDone(
                    f"The site made no new application password: {error.failure.message} Make one under "
                    f"Users → Profile → Application Passwords, then `runbook secrets stage {self.name}`."
                ) from None
            action.after = {"title": title, "handle": handle_of(self.name, made)}
        return made

    def _require_same_user(self, chosen: KeptValue) -> None:
        if self.name != "DATABASE_URL":
            raise UsageError("--set-at-server is for DATABASE_URL only.")
        present, wanted = (
            urlsplit(normalise_url(self._present())),
            urlsplit(normalise_url(chosen.value)),
        )
        if (present.username, _place(present)) != (wanted.username, _place(wanted)):
            raise PlanRefused(
                "The staged address names another user or database than the present one, so its password is not "
                "set from here. Make that user at the server, then activate without --set-at-server."
            )

    def _set_at_server(self, chosen: KeptValue) -> None:
        """Gives the role its new password: only a verifier leaves this process."""
        parts = urlsplit(normalise_url(chosen.value))
        with Database(self._present(), application_name="runbook secrets").connect() as connection:
            user = connection.raw.info.user
            verifier = encrypt_password(
                unquote(parts.password or ""), user, scope=connection.raw, algorithm="scram-sha-256"
            )
            with connection.transaction() as transaction, transaction.raw.cursor() as cursor:
                cursor.execute(f"ALTER ROLE {quoted_name(user)} PASSWORD %s", (verifier,))
        self._require_right(chosen)


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(normalise_url(url))
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    place = parts.netloc.rpartition("@")[2]
    query = f"?{parts.query}" if parts.query else ""
    return f"postgresql://{user}:{quote(password, safe='')}@{place}{parts.path}{query}"


def _place(parts: Any) -> tuple[Any, ...]:
    return parts.hostname, parts.port or 5432, parts.path
