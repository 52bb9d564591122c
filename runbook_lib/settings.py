"""Settings: read once from the environment and `.env`, then frozen.

The names of environment variables are the field names in capitals. A quantity carries its unit in
its name. Secrets are `SecretStr`, so that no repr, log line or traceback shows them.
"""

from __future__ import annotations

import getpass
import json
import os
import re
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runbook_lib import known_secrets
from runbook_lib.env_file import unreadable_lines
from runbook_lib.errors import ConfigurationError

PROJECT_DIRECTORY = Path(__file__).resolve().parent.parent
PROVIDERS = ("openai", "wordpress")
CALLER_PREFIXES = ("DATABASE_URL", "OPENAI_", "WORDPRESS_", "RUNBOOK_", "SUPABASE_", "PG")

Provider = Literal["openai", "wordpress"]
PostStatus = Literal["publish", "draft", "pending"]
SecretStore = Literal["env_file", "vault", "functions"]


class ModelPrice(BaseModel):
    """What a model costs, in US dollars for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_usd_per_million: Decimal = Field(ge=0)
    output_usd_per_million: Decimal = Field(ge=0)
    # What the provider still remembers from an earlier request; None: as any other input.
    cached_input_usd_per_million: Decimal | None = Field(None, ge=0)


class Settings(BaseSettings):
    """Everything that can be set, with its default.

    Raises `ConfigurationError` (through `load_settings`) naming the variable and the value's fault,
    never the value of a secret.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    # The `.env` that `load_settings` read; None for settings that were made by hand.
    _source_file: Path | None = PrivateAttr(None)

    # database
    database_url: SecretStr | None = None
    runbook_database_schema: str = "public"
    # For a pipeline that is not ours: how its tables map to `jobs` and `runs`, and where our own
    # tables are when they may not stand in its database.
    runbook_mapping: Path | None = None
    runbook_database_url: SecretStr | None = None
    runbook_functions_url: str | None = None
    runbook_functions_key: SecretStr | None = None
    runbook_database_deadline_seconds: float = Field(30, gt=0)

    # providers
    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = None
    openai_model: str = "gpt-4o-mini"
    openai_admin_key: SecretStr | None = None
    wordpress_url: str | None = None
    wordpress_user: str | None = None
    wordpress_app_password: SecretStr | None = None
    runbook_sandbox: Provider | None = None

    # where keys and passwords are kept: read from there, and written there by `runbook secrets`
    runbook_secret_store: SecretStore = "env_file"
    supabase_project: str | None = None
    supabase_access_token: SecretStr | None = None
    supabase_api_url: str = "https://api.supabase.com"

    # places
    runbook_home: Path = PROJECT_DIRECTORY / ".runbook"
    runbook_archive: str | None = None
    runbook_config: Path | None = None
    runbook_procedures: Path | None = None
    # The folder in which the database's dumps are kept.
    runbook_backups: Path | None = None
    # The folder for runs that a clean-up takes out of job_runs; by default in RUNBOOK_HOME.
    runbook_run_exports: Path | None = None
    runbook_actor: str | None = None
    # Set for the kernel of a run by schedule: the names of the changes that it may make.
    runbook_allowed_changes: str | None = None
    # Where the process is from which runs are forked; by default in RUNBOOK_HOME.
    runbook_fork_server: Path | None = None

    # the worker
    runbook_concurrency: int = Field(4, ge=1, le=1000)
    runbook_prefetch: int = Field(0, ge=0, le=10_000)
    runbook_lease_seconds: float = Field(30, gt=0)
    runbook_sweep_interval_seconds: float = Field(1, gt=0)
    runbook_idle_poll_seconds: float = Field(1, gt=0)
    runbook_attempt_deadline_seconds: float = Field(900, gt=0)
    runbook_stop_grace_seconds: float = Field(30, ge=0)
    runbook_quarantine_after_lost_attempts: int = Field(5, ge=1)
    runbook_retry_base_seconds: float = Field(10, gt=0)
    runbook_retry_maximum_seconds: float = Field(900, gt=0)
    runbook_pause_after_failures_in_a_row: int = Field(5, ge=1)
    runbook_provider_pause_seconds: float = Field(300, gt=0)
    runbook_provider_pause_maximum_seconds: float = Field(3600, gt=0)

    # writing
    runbook_openai_deadline_seconds: float = Field(300, gt=0)
    runbook_maximum_topic_characters: int = Field(4_000, ge=1)
    runbook_language: str = "en"
    runbook_minimum_words: int = Field(300, ge=1)
    runbook_maximum_likeness: float = Field(0.8, gt=0, le=1)
    runbook_maximum_output_tokens: int = Field(8_000, ge=256)
    runbook_model_prices: Annotated[dict[str, ModelPrice], NoDecode] = Field(default_factory=dict)

    # publishing
    runbook_wordpress_deadline_seconds: float = Field(30, gt=0)
    runbook_site_processing_seconds: float = Field(60, ge=0)
    runbook_post_status: PostStatus = "publish"
    runbook_fallback_category: str | None = None

    # people and pages
    runbook_alert_urls: SecretStr | None = None
    runbook_public_url: str | None = None
    runbook_console_address: str = "127.0.0.1:8080"
    runbook_read_token: SecretStr | None = None
    runbook_write_token: SecretStr | None = None
    runbook_allowed_hosts: str | None = None

    @field_validator("openai_api_key", "wordpress_app_password", "openai_admin_key")
    @classmethod
    def _without_stray_white_space(cls, value: SecretStr | None) -> SecretStr | None:
        # A key pasted with a newline fails as "Connection error." deep inside the client, and the
        # chained cause prints the key; so what surrounds a key goes, and what is inside is refused.
        if value is None:
            return None
        text = value.get_secret_value().strip()
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            raise ValueError("holds a control character inside; paste the key again")
        if not text.isascii():
            raise ValueError("holds a character outside ASCII; paste the key again")
        return SecretStr(text) if text else None

    @field_validator("runbook_model_prices", mode="before")
    @classmethod
    def _read_model_prices(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise ValueError("must be a JSON object of prices by model")
        return found

    @field_validator(
        "wordpress_url", "openai_base_url", "runbook_functions_url", "supabase_api_url"
    )
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = value.strip().rstrip("/")
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value

    @field_validator("runbook_home", "runbook_mapping", "runbook_run_exports")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("runbook_database_schema")
    @classmethod
    def _schema_name(cls, value: str) -> str:
        if not value.isidentifier() or not value.isascii():
            raise ValueError("must be a plain name of letters, digits and underscores")
        return value

    @property
    def env_file(self) -> Path | None:
        """The `.env` that these settings were read from, whether it exists or not."""
        return self._source_file

    @property
    def attached(self) -> bool:
        """Whether the pipeline is not ours: then its database is only read."""
        return self.runbook_mapping is not None

    def own_tables_url(self) -> SecretStr | None:
        """The database that holds our own tables; None: the embedded one.

        For a pipeline that is not ours that is `RUNBOOK_DATABASE_URL`, else a schema of our own in its
        database when `RUNBOOK_DATABASE_SCHEMA` names one. Raises `ConfigurationError` when the settings
        contradict each other.
        """
        if not self.attached:
            if self.runbook_database_url is not None:
                raise ConfigurationError(
                    "RUNBOOK_DATABASE_URL is set and RUNBOOK_MAPPING is not. For our own pipeline DATABASE_URL "
                    "says where everything is; for one that is not ours set RUNBOOK_MAPPING too (docs/adopting.md)."
                )
            return self.database_url
        if self.database_url is None:
            raise ConfigurationError(
                "RUNBOOK_MAPPING is set and DATABASE_URL is not: it names the database of the pipeline that is mapped."
            )
        if self.runbook_database_url is not None:
            return self.runbook_database_url
        return self.database_url if "runbook_database_schema" in self.model_fields_set else None

    @property
    def fork_server(self) -> Path:
        """The directory of the process from which runs are forked."""
        return self.runbook_fork_server or self.runbook_home / "fork_server"

    @property
    def run_exports(self) -> Path:
        """The folder that runs are exported to before a clean-up removes them."""
        return self.runbook_run_exports or self.runbook_home / "exports"

    def make_secrets_known(self) -> None:
        """Registers every secret value for masking."""
        for field in type(self).model_fields:
            value = getattr(self, field)
            if not isinstance(value, SecretStr):
                continue
            if field in ("database_url", "runbook_database_url"):
                known_secrets.register_address(value.get_secret_value(), "the database password")
            elif field == "runbook_alert_urls":
                for address in self.alert_urls():
                    known_secrets.register_service_address(address, "RUNBOOK_ALERT_URLS")
            else:
                user = self.wordpress_user if field == "wordpress_app_password" else None
                known_secrets.register(value.get_secret_value(), field.upper(), user=user)

    def alert_urls(self) -> list[str]:
        """The addresses of `RUNBOOK_ALERT_URLS`, which stand apart by white space or commas."""
        text = self.runbook_alert_urls.get_secret_value() if self.runbook_alert_urls else ""
        # A comma may also stand inside an address; there no scheme follows it.
        return [
            each
            for each in re.split(r"\s+|,(?=[\w.+-]+(?:=[\w.+-]+)?://)", text)
            if each.strip(", ")
        ]

    def sandboxed(self) -> frozenset[str]:
        """Names of the providers that the sandbox stands in for.

        Neither provider configured: both. One configured: the other only when `RUNBOOK_SANDBOX`
        says so. Raises `ConfigurationError` when a provider is half configured.
        """
        configured = self._configured()
        if not configured and self.runbook_sandbox is None:
            return frozenset(PROVIDERS)
        wanted = frozenset({self.runbook_sandbox} if self.runbook_sandbox else ())
        if both := configured & wanted:
            name = next(iter(both))
            raise ConfigurationError(
                f"RUNBOOK_SANDBOX={name}, but {name} is configured as well. "
                f"Unset RUNBOOK_SANDBOX to use the real one, or unset the {name.upper()}_* variables."
            )
        missing = frozenset(PROVIDERS) - configured - wanted
        if missing and not configured:
            return frozenset(PROVIDERS)
        if missing:
            name, other = next(iter(missing)), next(iter(configured))
            raise ConfigurationError(
                f"{other} is configured and {name} is not. Configure {name} "
                f"({', '.join(_REQUIRED[name])}), or say RUNBOOK_SANDBOX={name} "
                "to use the sandbox in its place."
            )
        return wanted

    def _configured(self) -> frozenset[str]:
        found = set()
        for provider, names in _REQUIRED.items():
            present = [name for name in names if self._is_set(name, provider)]
            hints = [name for name in _OPTIONAL[provider] if getattr(self, name.lower())]
            if len(present) == len(names):
                found.add(provider)
            elif present or hints:
                absent = [name for name in names if name not in present]
                raise ConfigurationError(
                    f"{provider} is half configured: {', '.join(present + hints)} is set, "
                    f"{', '.join(absent)} is not. Set what is missing, or unset the rest."
                )
        return frozenset(found)

    def _is_set(self, name: str, provider: str) -> bool:
        """Whether a variable has a value; a secret may stand in the Vault instead."""
        in_vault = self.runbook_secret_store == "vault" and name in _IN_VAULT
        return bool(getattr(self, name.lower())) or (in_vault and self.runbook_sandbox != provider)


_IN_VAULT = ("OPENAI_API_KEY", "WORDPRESS_APP_PASSWORD")
_REQUIRED = {
    "openai": ("OPENAI_API_KEY",),
    "wordpress": ("WORDPRESS_URL", "WORDPRESS_USER", "WORDPRESS_APP_PASSWORD"),
}
_OPTIONAL: dict[str, tuple[str, ...]] = {"openai": ("OPENAI_BASE_URL",), "wordpress": ()}


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Reads the settings of this process once: environment first, then `.env`.

    `.env` is the project's own; `RUNBOOK_ENV_FILE` names another, or none when it is empty.
    Raises `ConfigurationError` for a value that does not fit.
    """
    return read_settings(named_env_file())


def named_env_file() -> Path | None:
    """The `.env` of this process: the project's, or what `RUNBOOK_ENV_FILE` names; empty is none."""
    named = os.environ.get("RUNBOOK_ENV_FILE", str(PROJECT_DIRECTORY / ".env"))
    return Path(named) if named else None


def read_settings(env_file: Path | None) -> Settings:
    """Reads settings now: environment first, then this file. Registers their secrets for masking.

    Raises `ConfigurationError` for a value that does not fit.
    """
    try:
        if env_file is not None:
            _require_readable_lines(env_file)
        settings = Settings(_env_file=env_file)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"{env_file} cannot be read: {error}. It must be a text file in UTF-8."
        ) from None
    settings._source_file = env_file
    settings.make_secrets_known()
    return settings


def _require_readable_lines(env_file: Path) -> None:
    """A line that is passed over would leave a setting unset, and something else would be blamed for it."""
    for number, word in unreadable_lines(env_file).items():
        named = f", which begins with {word}," if word.lower() in Settings.model_fields else ""
        raise ConfigurationError(
            f"Line {number} of {env_file}{named} is not NAME=value, and cannot be read. "
            "Write it so, with its value between single quotation marks where it holds blanks; or begin it with #."
        )


def environment_without_callers(home: Path) -> dict[str, str]:
    """The environment for a demo or a test: nothing of the caller's database, keys, site or `.env`.

    Returns a copy of `os.environ` without their variables, with `RUNBOOK_HOME` set to `home`.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(CALLER_PREFIXES)
    }
    return {**kept, "RUNBOOK_HOME": str(home), "RUNBOOK_ENV_FILE": ""}


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in problem["loc"]).upper()
        lines.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
    return "Settings do not fit. " + "; ".join(lines)


def current_actor(given: str | None = None) -> str:
    """Who acts: who was given, else `RUNBOOK_ACTOR`, else the login."""
    if given or load_settings().runbook_actor:
        return given or str(load_settings().runbook_actor)
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
