"""The settings: half-configured providers, stray characters, misspelt names, places that cannot be used."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from runbook_lib.errors import ConfigurationError
from runbook_lib.health.checks import Check
from runbook_lib.health.probes import Probe
from runbook_lib.settings import Settings, read_settings

# Read by others than our settings: the openai package, our own start.
# Two are set for a run or a command that is handed over, by whoever starts it.
_ALSO_KNOWN = (
    "RUNBOOK_ENV_FILE",
    "RUNBOOK_RUN_ID",
    "RUNBOOK_HANDED_OVER",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENAI_LOG",
)
_PREFIXES = ("RUNBOOK_", "OPENAI_", "WORDPRESS_", "DATABASE_")
_SECRETS = (
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "WORDPRESS_APP_PASSWORD",
    "DATABASE_URL",
    "RUNBOOK_DATABASE_URL",
    "RUNBOOK_FUNCTIONS_KEY",
)
_WRONG_ENDINGS = ("/wp-json", "/wp-admin", "/wp-login.php", "/xmlrpc.php", "/wp-json/wp/v2")
LOW_SPACE_BYTES = 1_000_000_000


class Configuration:
    """What the environment and `.env` say, before and after settings make sense of it."""

    def __init__(self, environment: Mapping[str, str], env_file: Path | None) -> None:
        self.environment = environment
        self.env_file = env_file
        self.settings: Settings | None = None
        self.problem: str | None = None
        self.sandboxed: frozenset[str] = frozenset()
        try:
            self.settings = read_settings(env_file)
            self.sandboxed = self.settings.sandboxed()
        except ConfigurationError as error:
            self.problem = str(error)

    @classmethod
    def of_this_process(cls, env_file: Path | None) -> Configuration:
        return cls(os.environ, env_file)

    def in_file(self) -> dict[str, str]:
        """The raw values of `.env`."""
        if self.env_file is None or not self.env_file.is_file():
            return {}
        try:
            return {name: value or "" for name, value in dotenv_values(self.env_file).items()}
        except (OSError, UnicodeError):
            return {}

    def value(self, name: str) -> str | None:
        """One value as it would be used, also when the settings as a whole do not fit."""
        if self.settings is None:
            return (self.environment.get(name) or self.in_file().get(name) or "").strip() or None
        value = getattr(self.settings, name.lower())
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        return None if value is None else str(value)


def probe_configuration(configuration: Configuration) -> Probe:
    """Everything that can be said without leaving this process."""
    yield _whether_it_fits(configuration)
    yield from _stray_characters(configuration)
    yield from _unknown_names(configuration)
    yield from _overruled(configuration)
    yield from _who_can_read(configuration)
    if configuration.settings is not None:
        yield from _addresses(configuration.settings)
        yield _home(configuration.settings.runbook_home)
        yield from _named_files(configuration.settings)


def _whether_it_fits(configuration: Configuration) -> Check:
    name, source = "settings.values", "environment and .env"
    if configuration.problem is not None:
        return Check(
            name,
            "critical",
            configuration.problem,
            source=source,
            next="Correct the variables it names.",
        )
    if configuration.sandboxed == frozenset(("openai", "wordpress")):
        words = "Neither OpenAI nor WordPress is configured: the sandbox stands in for both."
    elif configuration.sandboxed:
        words = f"The sandbox stands in for {next(iter(configuration.sandboxed))}; the other one is real."
    else:
        words = "OpenAI and WordPress are both configured."
    return Check(name, "ok", words, value=sorted(configuration.sandboxed), source=source)


def _stray_characters(configuration: Configuration) -> Iterator[Check]:
    for variable in _SECRETS:
        for place, values in (
            ("the environment", configuration.environment),
            (".env", configuration.in_file()),
        ):
            value = values.get(variable, "")
            if fault := _fault_in(value):
                yield Check(
                    "settings.stray_characters",
                    "warning",
                    f"{variable} in {place} {fault}.",
                    source=place,
                    next=f"Set {variable} again without it. White space around keys is left out when they are used.",
                )


def _fault_in(value: str) -> str | None:
    if value != value.strip():
        return "begins or ends with white space or a line end"
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return "stands in quotation marks that are part of the value"
    return None


def _unknown_names(configuration: Configuration) -> Iterator[Check]:
    known = {field.upper() for field in Settings.model_fields} | set(_ALSO_KNOWN)
    names = {name.upper(): name for name in [*configuration.environment, *configuration.in_file()]}
    for upper, name in sorted(names.items()):
        if upper in known:
            continue
        nearest = difflib.get_close_matches(upper, sorted(known), n=1, cutoff=0.6)
        # Other programs' variables stand in the environment too: elsewhere only a near miss counts.
        if not upper.startswith(_PREFIXES):
            nearest = difflib.get_close_matches(upper, sorted(known), n=1, cutoff=0.88)
            if not nearest:
                continue
        if upper.startswith(("OPENAI_", "WORDPRESS_", "DATABASE_")) and not nearest:
            continue
        hint = (
            f"Did you mean {nearest[0]}?"
            if nearest
            else "Remove it, or look its name up in examples/env.example."
        )
        yield Check(
            "settings.unknown_name",
            "warning",
            f"{name} is set, but nothing reads it.",
            value=name,
            source="environment and .env",
            next=hint,
        )


def _overruled(configuration: Configuration) -> Iterator[Check]:
    in_file = configuration.in_file()
    for name in sorted(in_file):
        outside = configuration.environment.get(name)
        if name.startswith(_PREFIXES) and outside and in_file[name] and outside != in_file[name]:
            yield Check(
                "settings.overruled",
                "warning",
                f"{name} stands in the environment and in {configuration.env_file} with different values: "
                "the environment wins, and a change in the file has no effect.",
                value=name,
                source="environment and .env",
                next=f"Unset {name} in the environment, or remove it from the file.",
            )


def _who_can_read(configuration: Configuration) -> Iterator[Check]:
    file = configuration.env_file
    if file is None or not any(configuration.in_file().get(name) for name in _SECRETS):
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        yield Check(
            "settings.file_rights",
            "warning",
            f"Others on this machine can read the keys in {file} (mode {mode:o}).",
            value=f"{mode:o}",
            threshold="600",
            source="file mode",
            next=f"chmod 600 {file}",
        )


def _addresses(settings: Settings) -> Iterator[Check]:
    address = settings.wordpress_url or ""
    for ending in _WRONG_ENDINGS:
        if address.endswith(ending):
            yield Check(
                "settings.wordpress_url",
                "critical",
                f"WORDPRESS_URL ends in {ending}; it must be the site's own address.",
                next=f"Set WORDPRESS_URL={address.removesuffix(ending)}",
            )


def _home(home: Path) -> Check:
    name, existing = "settings.home", home
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check(
            name,
            "critical",
            f"RUNBOOK_HOME is {home}, and this user may not write in {existing}.",
            source=str(existing),
            next="Name another folder in RUNBOOK_HOME, or change the folder's owner.",
        )
    room = os.statvfs(existing)
    free = room.f_bavail * room.f_frsize
    low = free < LOW_SPACE_BYTES
    return Check(
        name,
        "warning" if low else "ok",
        f"RUNBOOK_HOME is {home}; {free / 1e9:.1f} GB are free there.",
        free,
        "bytes",
        LOW_SPACE_BYTES,
        "statvfs",
        next="Make room: the embedded database and the archive grow there." if low else None,
    )


def _named_files(settings: Settings) -> Iterator[Check]:
    for variable, path in (
        ("RUNBOOK_CONFIG", settings.runbook_config),
        ("RUNBOOK_PROCEDURES", settings.runbook_procedures),
    ):
        if path is not None and not path.exists():
            yield Check(
                "settings.named_file",
                "critical",
                f"{variable} names {path}, which does not exist.",
                next=f"Correct {variable}, or unset it.",
            )
