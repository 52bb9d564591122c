"""Which OpenAI and which WordPress a process talks to: the real ones, or the sandbox in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runbook_lib.credentials.store import Credentials
from runbook_lib.errors import ConfigurationError
from runbook_lib.settings import Settings

if TYPE_CHECKING:
    from runbook_lib.sandbox import Sandbox

OPENAI_ADDRESS = "https://api.openai.com/v1"


@dataclass(frozen=True)
class OpenAIProvider:
    """Where to write articles. `api_key` is asked for each request, since it may change.

    `admin_key` tells usage and costs, and writes nothing; None where none is set.
    """

    base_url: str
    api_key: Callable[[], str] = field(repr=False)
    model: str
    sandboxed: bool
    admin_key: Callable[[], str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class WordPressProvider:
    """Where to publish. `app_password` is asked for each request, since it may change."""

    url: str
    user: str
    app_password: Callable[[], str] = field(repr=False)
    sandboxed: bool


@dataclass
class Providers:
    """Both providers of a process; closing lets go of the sandbox."""

    openai: OpenAIProvider
    wordpress: WordPressProvider
    credentials: Credentials | None = field(default=None, repr=False)
    _sandbox: Sandbox | None = field(default=None, repr=False)

    def describe(self) -> str:
        """One line for pages, notebooks and commands; it says so when the sandbox stands in."""
        openai = "sandbox" if self.openai.sandboxed else self.openai.base_url
        wordpress = "sandbox" if self.wordpress.sandboxed else self.wordpress.url
        return f"OpenAI: {openai} ({self.openai.model}) · WordPress: {wordpress}"

    def close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.release()
            self._sandbox = None

    def __enter__(self) -> Providers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def resolve_providers(settings: Settings, credentials: Credentials | None = None) -> Providers:
    """The providers that the settings name; starts the sandbox when it stands in for one.

    Raises `ConfigurationError` for a half-configured provider and `ServiceNotStarted` when the
    sandbox does not come up.
    """
    sandboxed = settings.sandboxed()
    credentials = credentials or Credentials(settings)
    sandbox = _acquire_sandbox(settings) if sandboxed else None
    return Providers(
        openai_of(settings, credentials, sandbox if "openai" in sandboxed else None),
        wordpress_of(settings, credentials, sandbox if "wordpress" in sandboxed else None),
        credentials,
        sandbox,
    )


def _acquire_sandbox(settings: Settings) -> Sandbox:
    from runbook_lib import sandbox

    return sandbox.acquire(settings.runbook_home)


def openai_of(
    settings: Settings, credentials: Credentials, sandbox: Sandbox | None
) -> OpenAIProvider:
    """The OpenAI of the settings, or the sandbox that stands in for it."""
    if sandbox is not None:
        return OpenAIProvider(
            sandbox.openai_base_url,
            lambda: sandbox.openai_api_key,
            settings.openai_model,
            sandboxed=True,
            admin_key=lambda: sandbox.openai_admin_key,
        )
    return OpenAIProvider(
        settings.openai_base_url or OPENAI_ADDRESS,
        credentials.reader("OPENAI_API_KEY"),
        settings.openai_model,
        sandboxed=False,
        admin_key=credentials.reader("OPENAI_ADMIN_KEY") if settings.openai_admin_key else None,
    )


def wordpress_of(
    settings: Settings, credentials: Credentials, sandbox: Sandbox | None
) -> WordPressProvider:
    """The WordPress of the settings, or the sandbox that stands in for it."""
    if sandbox is not None:
        return WordPressProvider(
            sandbox.wordpress_url,
            sandbox.wordpress_user,
            lambda: sandbox.wordpress_app_password,
            sandboxed=True,
        )
    if not settings.wordpress_url or not settings.wordpress_user:
        raise ConfigurationError("WORDPRESS_URL and WORDPRESS_USER are not set.")
    return WordPressProvider(
        settings.wordpress_url,
        settings.wordpress_user,
        credentials.reader("WORDPRESS_APP_PASSWORD"),
        sandboxed=False,
    )
