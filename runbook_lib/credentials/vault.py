"""Supabase Vault through its SQL interface.

Its traps, each handled here: a second `create_secret` under a name fails, so a secret is looked up by
its name and updated; `update_secret` of an id that does not exist succeeds and does nothing, so what
was written is read back in the same transaction; one row that was put in by a plain INSERT breaks the
view for all rows, so rows are read one at a time; a value inside a statement ends up in the server's
log, so it travels as COPY data into a table that vanishes with the transaction. What cannot be handled
is said: `create_secret` leaves the plain value in a dead row until the table is vacuumed.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg2
import psycopg2.errors
from pydantic import SecretStr

from runbook_lib.credentials.names import NAMES
from runbook_lib.credentials.staging import register
from runbook_lib.credentials.store import VAULT, credentials_in, origin_of
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import (
    ConfigurationError,
    CouldNotBeDone,
    DatabaseNotMigrated,
    RunbookError,
)
from runbook_lib.settings import Settings, read_settings

log = logging.getLogger(__name__)
_SQL = load("vault")
# The address of the database cannot stand inside the database.
VAULT_NAMES = tuple(name for name in NAMES if name != "DATABASE_URL")
# How often the Vault is asked whether something changed; a refused login asks at once.
LOOK_SECONDS = 3.0
STATEMENT_SECONDS = 5.0
_GRANTS = (
    "Grant the role USAGE on schema vault, SELECT on vault.decrypted_secrets and EXECUTE on "
    "vault._crypto_aead_det_decrypt; to write also EXECUTE on vault.create_secret and vault.update_secret."
)


class NotEncrypted(CouldNotBeDone):
    """A row of the Vault was put in past its functions, and stands there in clear."""


@dataclass(frozen=True)
class VaultEntry:
    """What the Vault knows of a secret without its value."""

    name: str
    updated_at: datetime
    created_at: datetime


class Vault:
    """The secrets of one database, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(self) -> dict[str, VaultEntry]:
        """When each of our secrets was set; needs no right to decrypt. Raises `CouldNotBeDone`."""
        try:
            with self._database.transaction(read_only=True, deadline_seconds=STATEMENT_SECONDS) as transaction:  # fmt: skip
                rows = transaction.rows(_SQL["entries"], names=list(VAULT_NAMES))
        except (psycopg2.Error, DatabaseNotMigrated) as error:
            raise _explained(error, "read") from None
        return {row.name: VaultEntry(row.name, row.updated_at, row.created_at) for row in rows}

    def value(self, name: str) -> str | None:
        """The secret's value; None when there is none. Raises `CouldNotBeDone` that never shows it."""
        try:
            with self._database.transaction(read_only=True, deadline_seconds=STATEMENT_SECONDS) as transaction:  # fmt: skip
                return _value_of(transaction, name)
        except (psycopg2.Error, DatabaseNotMigrated) as error:
            raise _explained(error, name) from None

    def write(self, name: str, value: str) -> bool:
        """Sets the secret, whether it is there already or not, and reads it back.

        True when it was created: then the plain value stands in a dead row of `vault.secrets` until the
        table is vacuumed. Raises `CouldNotBeDone`, and then nothing was changed.
        """
        try:
            return self._write(name, value)
        except psycopg2.errors.UniqueViolation:
            # Somebody created it in this moment: now it is there, and is updated.
            return self._write(name, value)
        except (psycopg2.Error, DatabaseNotMigrated) as error:
            raise _explained(error, name) from None

    def require_writable(self) -> None:
        """Raises `CouldNotBeDone` when this role may not write."""
        try:
            with self._database.transaction(read_only=True, deadline_seconds=STATEMENT_SECONDS) as transaction:  # fmt: skip
                allowed = transaction.value(_SQL["may_write"])
        except (psycopg2.Error, DatabaseNotMigrated) as error:
            raise _explained(error, "write") from None
        if not allowed:
            raise CouldNotBeDone(f"This role may not write to the Vault. {_GRANTS}")

    def _write(self, name: str, value: str) -> bool:
        with self._database.transaction(deadline_seconds=STATEMENT_SECONDS) as transaction:
            _hand_over(transaction, value)
            there = transaction.value(_SQL["id_of"], name=name)
            transaction.rows(_SQL["create" if there is None else "update"], id=there, name=name)
            if _value_of(transaction, name) != value:
                raise CouldNotBeDone(
                    f"{name} was written to the Vault and something else was read back; nothing was changed."
                )
            return there is None


class VaultSource:
    """The Vault in front of the environment and `.env`: what it does not hold comes from there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._vault = Vault(vault_database(settings))
        self._mark: object = None
        self._next_look_at = 0.0
        self._held: frozenset[str] = frozenset()

    def mark(self) -> object:
        """When each secret was last set, asked every few seconds; while it cannot be asked, as before."""
        if time.monotonic() >= self._next_look_at:
            self._next_look_at = time.monotonic() + LOOK_SECONDS
            try:
                entries = self._vault.entries()
                self._mark = tuple(
                    sorted((each.name, each.updated_at) for each in entries.values())
                )
            except RunbookError:
                pass
        return self._mark

    def read(self) -> Mapping[str, SecretStr]:
        values = dict(credentials_in(self._below()))
        held = {name: value for name in VAULT_NAMES if (value := self._value(name))}
        for name, value in held.items():
            register(name, value)
        self._held = frozenset(held)
        return {**values, **{name: SecretStr(value) for name, value in held.items()}}

    def origin(self, name: str) -> str:
        return VAULT if name in self._held else origin_of(name)

    def _value(self, name: str) -> str | None:
        try:
            return self._vault.value(name)
        except NotEncrypted as error:
            # The others can be had; this one stays as it was.
            log.warning("%s", error)
            return None

    def _below(self) -> Settings:
        file = self._settings.env_file
        return self._settings if file is None else read_settings(file)


def vault_database(settings: Settings) -> Database:
    """The database whose Vault is used. Raises `ConfigurationError` when none is named."""
    if settings.database_url is None:
        raise ConfigurationError(
            "RUNBOOK_SECRET_STORE=vault, but DATABASE_URL is not set: it names the database whose Vault is used."
        )
    return Database(settings.database_url.get_secret_value(), application_name="runbook vault")


def _hand_over(transaction: Transaction, value: str) -> None:
    """Puts the value where the next statement finds it, without it being a part of any statement."""
    transaction.run(_SQL["make_hand_over"])
    escaped = value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    with transaction.raw.cursor() as cursor:
        cursor.copy_expert(str(_SQL["hand_over"]), io.StringIO(f"{escaped}\n"))


def _value_of(transaction: Transaction, name: str) -> str | None:
    found = transaction.value(_SQL["value_of"], name=name)
    return None if found is None else str(found)


def _explained(error: psycopg2.Error | DatabaseNotMigrated, name: str) -> CouldNotBeDone:
    # The server's own words are left out: they may quote what was stored.
    if isinstance(error, psycopg2.errors.InsufficientPrivilege):
        return CouldNotBeDone(f"This role may not use the Vault. {_GRANTS}")
    if isinstance(error, DatabaseNotMigrated):
        return CouldNotBeDone(
            "This database has no Vault: enable the extension (Supabase: Database → Extensions → supabase_vault)."
        )
    if isinstance(error, psycopg2.errors.DataError):
        return NotEncrypted(
            f"The Vault cannot decrypt {name}: its row was put in by a plain INSERT, so the value stands there "
            "unencrypted. Delete that row (DELETE FROM vault.secrets WHERE name = …), make a new key at the "
            "provider, and stage it here."
        )
    return CouldNotBeDone(
        f"The Vault did not answer for {name}: {type(error).__name__} ({error.pgcode})."
    )
