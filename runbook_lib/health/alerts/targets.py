"""Where alerts go: the addresses of `RUNBOOK_ALERT_URLS`, each with a name that holds no secret."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from runbook_lib import known_secrets
from runbook_lib.settings import Settings

_FROM_LEVEL = re.compile(r"level([123])=(?=[\w.+-]+://)")


@dataclass(frozen=True)
class Target:
    """One address. `name` is for people, `key` tells addresses apart; neither gives the address away.

    `from_level` is the lowest level that it is told of: `level2=slack://…` is left alone until an alert
    was raised to level 2, or level 2 is told of it from the beginning.
    """

    name: str
    key: str
    url: str = field(repr=False)
    from_level: int = 1

    def is_told(self, level: int, also_told: tuple[int, ...] = ()) -> bool:
        return max(level, *also_told, 1) >= self.from_level


def open_targets(settings: Settings) -> list[Target]:
    """The addresses in their order, without repeats. An address that is wrong fails when it is used."""
    found: dict[str, Target] = {}
    for number, written in enumerate(settings.alert_urls(), 1):
        level = _FROM_LEVEL.match(written)
        url = written[level.end() :] if level else written
        known_secrets.register_service_address(url, "RUNBOOK_ALERT_URLS")
        # Short, so that an address cannot be found by trying: many others have the same digest.
        key = hashlib.sha256(url.encode()).hexdigest()[:8]
        found.setdefault(key, Target(_name(url, number), key, url, int(level[1]) if level else 1))
    return list(found.values())


# Services of one's own, whose host is no secret; elsewhere a token may stand in its place.
_OWN_HOST = frozenset({"json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "apprise", "apprises", "mqtt", "mqtts", "syslog"})  # fmt: skip


def _name(url: str, number: int) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[\w.+-]{1,20}", scheme):
        return f"address {number}"
    host = None
    if scheme.lower() in _OWN_HOST:
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
    return f"{scheme.lower()} {number}" + (f" at {host}" if host else "")
