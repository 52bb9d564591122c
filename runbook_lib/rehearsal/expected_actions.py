"""What the catalogue says is the right first action for each cause, and whether it may be done without a person.

Independent of triage: written down from the catalogue's own columns, so that an answer can be held against it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Expected:
    """`says`: what the action must say in its words, command or plan; `automation`: Y, P or N, or some of these."""

    says: str
    automation: str


_TELL = r"\b(tell|page|ask) "
_PAUSE_OPENAI, _PAUSE_WORDPRESS = (
    r"pause openai|provider\.pause",
    r"pause wordpress|provider\.pause",
)
_LOWER = r"\blower|limits\.lower"
_END = r"\b(terminate|end|cancel|close)\b|sessions\.end"

FIRST_ACTIONS: Mapping[str, Expected] = {
    "database-down": Expected(rf"{_TELL}|pause|stop claiming", "Y"),
    "database-hung": Expected(rf"{_TELL}|recycle", "P"),
    "database-password-wrong": Expected(r"password.*restart|restart.*password", "P"),
    "database-connections-exhausted": Expected(r"close idle|idle .*sessions|sessions\.end|close idle ones", "P"),
    "database-role-or-pooler-limit": Expected(_LOWER, "Y"),
    "database-table-locked": Expected(rf"block.*({_END})", "P"),
    "database-index-missing": Expected(r"index .*concurrently|create index", "P"),
    "database-statistics-stale-or-bloated": Expected(rf"({_END}).*(transaction|session|vacuum)|vacuum", "P"),
    "database-rows-locked-by-idle-transaction": Expected(_END, "P"),
    "database-grant-revoked": Expected(r"grant", "N"),
    "database-read-only": Expected(r"primary", "P"),
    "database-disk-full": Expected(r"stop claim|pause .*(free|enlarge)", "P"),
    "database-deadlocks": Expected(r"tried again|retr|nothing", "Y"),
    "database-schema-drift": Expected(r"take back|roll .*back|migrat", "N"),
    "database-crash-recovery-loop": Expected(r"stop .*(program|client)", "P"),
    "openai-quota-exhausted": Expected(_PAUSE_OPENAI, "Y"),
    "openai-rate-limited": Expected(_LOWER, "Y"),
    "openai-key-invalid": Expected(r"new key|rotate|secrets stage", "N"),
    "openai-key-malformed": Expected(r"key.*(again|format|line break)", "N"),
    "openai-overloaded": Expected(rf"growing pauses|back off|{_PAUSE_OPENAI}", "Y"),
    "openai-slow": Expected(r"lease|deadline", "P"),
    "openai-stalled": Expected(rf"deadline|{_PAUSE_OPENAI}", "Y"),
    "openai-silent-bad-answers": Expected(rf"stop publish|{_PAUSE_WORDPRESS}|draft", "P"),
    "openai-wrong-base-url": Expected(r"OPENAI_BASE_URL|address", "N"),
    "openai-content-filtered": Expected(r"quarantine|cancel", "Y"),
    "openai-context-too-long": Expected(r"quarantine|shorten|trim|cancel", "Y"),
    "wordpress-login-revoked": Expected(_PAUSE_WORDPRESS, "Y"),
    "wordpress-permission-lost": Expected(r"\brole\b", "N"),
    "wordpress-down": Expected(_PAUSE_WORDPRESS, "Y"),
    "wordpress-url-redirects": Expected(r"WORDPRESS_URL", "P"),
    "wordpress-category-missing": Expected(r"fall-?back|make the category", "PY"),
    "wordpress-rest-off": Expected(r"permalink|REST API on|enable", "N"),
    "wordpress-certificate-expired": Expected(r"renew", "N"),
    "wordpress-slow-publish": Expected(r"looks? .*post|look-up|nothing at once", "Y"),
    "worker-killed": Expected(r"take .*jobs back|sweep", "Y"),
    "worker-stuck": Expected(r"restart|end .*attempt|drain", "P"),
    "worker-crash-loop": Expected(r"release back|roll .*back", "P"),
    "job-poisonous": Expected(r"quarantine", "Y"),
    "sweeper-too-eager": Expected(r"lease .*longer|longer .*lease|stop .*sweep", "P"),
    "workers-stopped": Expected(r"start .*worker|worker\.py", "P"),
    "scheduler-not-running": Expected(r"schedule start|start .*scheduler", "Y"),
    "dns-failure": Expected(_TELL, "N"),
    "network-half-open": Expected(r"connections?|pool", "Y"),
    "network-flapping": Expected(rf"back off|{_TELL}", "P"),
    "worker-clock-skewed": Expected(r"drain|stop", "P"),
    "concurrency-too-high": Expected(r"back to|revert", "P"),
    "one-worker-outdated": Expected(r"drain|stop", "Y"),
    "producer-stopped": Expected(_TELL, "N"),
}  # fmt: skip


def against(causes: tuple[str, ...], first: Mapping[str, Any] | None) -> str | None:
    """What speaks against an answer's first action, given the true causes; None when it is right.

    Without a known cause the right action is none that changes anything.
    """
    if not causes:
        if first is None or first["plan"] is None:
            return None
        return f"{first['plan']['kind']} was advised without a known cause"
    if first is None:
        return "no action was told"
    told = f"{first['first_action']} {first['command']} {(first['plan'] or {}).get('kind', '')}"
    for cause in causes:
        expected = FIRST_ACTIONS[cause]
        if re.search(expected.says, told, re.IGNORECASE) and first["id"] == cause:
            if first["safe_to_automate"] in expected.automation:
                return None
            return f"automation {first['safe_to_automate']}, and the catalogue says {expected.automation}: {told}"
    return f"for {first['id']}: {told}"
