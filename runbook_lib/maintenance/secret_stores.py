"""Where credentials are kept: written there by a rotation, and read from there by those who use them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from runbook_lib.credentials.store import ENVIRONMENT, origin_of
from runbook_lib.credentials.vault import VAULT_NAMES, Vault, vault_database
from runbook_lib.env_file import EnvFile
from runbook_lib.errors import ConfigurationError
from runbook_lib.maintenance.function_secrets import FunctionSecrets
from runbook_lib.settings import Settings


class SecretStore(Protocol):
    """One place for credentials. `followed`: our own processes read it again while they run."""

    title: str
    followed: bool

    def value(self, name: str) -> str | None:
        """What stands there now; None when there is none, or when the place shows no values."""
        ...

    def set_at(self, name: str) -> datetime | None:
        """When it was last set, as far as the place tells."""
        ...

    def require_writable(self) -> None:
        """Raises `CouldNotBeDone` when `write` would not be possible."""
        ...

    def write(self, name: str, value: str) -> str:
        """Sets it, and says how it was verified. Raises `CouldNotBeDone`."""
        ...


class EnvFileStore:
    """`.env`: workers on this host read it again when it was written."""

    followed = True

    def __init__(self, file: EnvFile) -> None:
        self._file = file
        self.title = str(file.path)

    def value(self, name: str) -> str | None:
        return self._file.value(name)

    def set_at(self, name: str) -> datetime | None:
        return None  # the file's time is that of its last change, whatever was changed

    def require_writable(self) -> None:
        self._file.require_writable()

    def write(self, name: str, value: str) -> str:
        self._file.replace(name, value)
        words = f"{self.title} was rewritten in one step and read back."
        if self._file.readable_by_others():
            words += f" Others may read it: chmod 600 {self.title}"
        return words


class VaultStore:
    """Supabase Vault: every worker that is set to read it, on whatever host."""

    followed = True

    def __init__(self, vault: Vault, where: str) -> None:
        self._vault = vault
        self.title = f"the Vault of {where}"

    def value(self, name: str) -> str | None:
        return self._vault.value(name)

    def set_at(self, name: str) -> datetime | None:
        entry = self._vault.entries().get(name)
        return entry.updated_at if entry else None

    def require_writable(self) -> None:
        self._vault.require_writable()

    def write(self, name: str, value: str) -> str:
        created = self._vault.write(name, value)
        words = f"{name} was written to {self.title} and read back."
        if created:
            words += " It was created: until `VACUUM vault.secrets` its plain value stands in a dead row of that table."
        return words


class FunctionStore:
    """The secrets of Edge Functions. Our own processes do not read them."""

    followed = False

    def __init__(self, secrets: FunctionSecrets) -> None:
        self._secrets = secrets
        self.title = f"the function secrets of project {secrets.project}"

    def value(self, name: str) -> str | None:
        return None

    def set_at(self, name: str) -> datetime | None:
        found = self._secrets.listed().get(name)
        return _moment(found.updated_at) if found else None

    def require_writable(self) -> None:
        self._secrets.listed()

    def write(self, name: str, value: str) -> str:
        self._secrets.write(name, value)
        return (
            f"{name} was written to {self.title}; the digest that it shows is that of the new value. "
            "Functions that start from now on have it."
        )


def store_of(settings: Settings, name: str) -> SecretStore:
    """The place of one credential. Raises `ConfigurationError` when the settings name none that can hold it.

    The database's own address is never kept inside the database.
    """
    if settings.runbook_secret_store == "functions":
        return FunctionStore(FunctionSecrets.of(settings))
    if settings.runbook_secret_store == "vault" and name in VAULT_NAMES:
        database = vault_database(settings)
        return VaultStore(Vault(database), database.address)
    if settings.env_file is None:
        raise ConfigurationError(
            f"There is no file to write {name} to: RUNBOOK_ENV_FILE is empty. {BY_ENVIRONMENT}"
        )
    return EnvFileStore(EnvFile(settings.env_file))


# What to do where a process has a secret from its environment, which nobody can change from outside.
BY_ENVIRONMENT = (
    "A value in a process's environment cannot be changed while it runs. Either move it into the file that "
    "RUNBOOK_ENV_FILE names and take it out of the environment, so that the next rotation is live; or put the new "
    "value where the environment comes from (the unit, the container's secret) and restart one worker after "
    "another: `runbook workers drain NAME` lets it finish what it has and end, then start it again. No job is lost "
    "by that. Revoke the old value only when the last one has the new one."
)


def in_environment(name: str) -> bool:
    """Whether this process has a credential from its environment."""
    return origin_of(name) == ENVIRONMENT


def _moment(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
