"""Which database, OpenAI and WordPress the configuration means, also when it does not fit as a whole."""

from __future__ import annotations

from collections.abc import Callable

from runbook_lib.health.checks import Check
from runbook_lib.health.probes import Probe
from runbook_lib.health.probes.configuration import Configuration
from runbook_lib.pipeline.providers import OPENAI_ADDRESS
from runbook_lib.settings import Settings


def probe_database_of(configuration: Configuration) -> Probe:
    """The database of `DATABASE_URL`, else the embedded one if it is up."""
    from runbook_lib.health.probes.database import probe_database

    url = configuration.value("DATABASE_URL")
    schema = configuration.value("RUNBOOK_DATABASE_SCHEMA") or "public"
    if url is not None:
        attached = configuration.value("RUNBOOK_MAPPING") is not None
        yield from probe_database(url, schema, never_writes=attached)
        return
    from runbook_lib.database import embedded

    home = (
        configuration.settings.runbook_home
        if configuration.settings
        else Settings.model_fields["runbook_home"].default
    )
    status = embedded.server(home).status()
    if not status.ready:
        yield Check(
            "database.embedded",
            "ok",
            f"DATABASE_URL is not set: the embedded PostgreSQL under {home} is used. It is not running now, and starts by itself.",
            source="DATABASE_URL",
        )
        return
    yield Check(
        "database.embedded",
        "ok",
        f"DATABASE_URL is not set: the embedded PostgreSQL under {home} is used. It is running.",
        source="DATABASE_URL",
    )
    yield from probe_database(embedded.address(home, status.state), schema)


def probe_mapping_of(configuration: Configuration) -> Probe:
    """The mapping of a pipeline that is not ours, when there is one."""
    from runbook_lib.health.probes.mapping import probe_mapping

    if configuration.settings is not None:
        yield from probe_mapping(configuration.settings)


def probe_openai_of(configuration: Configuration) -> Probe:
    """OpenAI, when it is configured."""
    from runbook_lib.health.probes.openai import probe_openai

    key = configuration.value("OPENAI_API_KEY")
    if key is None:
        yield _not_asked(configuration, "openai", "OPENAI_API_KEY")
        return
    model = configuration.value("OPENAI_MODEL") or str(
        Settings.model_fields["openai_model"].default
    )
    yield from probe_openai(
        configuration.value("OPENAI_BASE_URL") or OPENAI_ADDRESS, _reader(key), model
    )


def probe_wordpress_of(configuration: Configuration) -> Probe:
    """WordPress, when it is configured."""
    from runbook_lib.health.probes.wordpress import probe_wordpress

    url, user, password = (
        configuration.value(name)
        for name in ("WORDPRESS_URL", "WORDPRESS_USER", "WORDPRESS_APP_PASSWORD")
    )
    if url is None or user is None or password is None:
        yield _not_asked(
            configuration, "wordpress", "WORDPRESS_URL, WORDPRESS_USER and WORDPRESS_APP_PASSWORD"
        )
        return
    yield from probe_wordpress(
        url.rstrip("/"),
        user,
        _reader(password),
        post_status=configuration.value("RUNBOOK_POST_STATUS") or "publish",
        fallback_category=configuration.value("RUNBOOK_FALLBACK_CATEGORY"),
    )


def _reader(value: str) -> Callable[[], str]:
    return lambda: value


def _not_asked(configuration: Configuration, provider: str, variables: str) -> Check:
    if provider in configuration.sandboxed:
        return Check(
            f"{provider}.sandbox",
            "ok",
            "The sandbox stands in for it: nothing leaves this machine.",
            does_not_prove="anything about the real one",
        )
    return Check(
        f"{provider}.configuration",
        "not_enough_data",
        f"Not examined: {variables} must be set for that.",
        source="environment and .env",
    )
