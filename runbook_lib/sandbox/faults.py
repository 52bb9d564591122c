"""The switches: what can be made to go wrong, for which requests, how often and for how long.

A fault belongs to one of three groups. A *condition* changes how the stand-in is (a role was lowered, a
category deleted); all that match hold together. An *answer* takes the place of the work's answer, and a
*delivery* changes how it goes over the wire; of these two the first that matches a request strikes, so
that a count says how many requests were struck.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from runbook_lib.sandbox.messages import Request
from runbook_lib.sandbox.storage import Storage

OPENAI, WORDPRESS = "openai", "wordpress"
BOTH = (OPENAI, WORDPRESS)


class FaultRefused(ValueError):
    """A fault that does not exist or was described wrongly; the message says how."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault: whose, which group, what it does, and its options with their defaults."""

    name: str
    providers: tuple[str, ...]
    group: str  # condition | answer | delivery
    meaning: str
    options: dict[str, Any] = field(default_factory=dict)


def _kinds(*kinds: Kind) -> dict[tuple[str, str], Kind]:
    return {(provider, kind.name): kind for kind in kinds for provider in kind.providers}


KINDS = _kinds(
    # either
    Kind("status", BOTH, "answer", "Any status before the work.", {"status": 503, "body": "html", "retry_after": None}),
    Kind("latency", BOTH, "delivery", "The answer comes later; the work is done at once.", {"delay_seconds": 1.0}),
    Kind("black_hole", BOTH, "answer", "The request is taken and neither worked on nor answered.", {"silence_seconds": 3600.0}),
    Kind("reset", BOTH, "answer", "The connection is reset before the work.", {}),
    Kind("drip", BOTH, "delivery", "The body comes byte by byte.", {"interval_seconds": 0.2}),
    Kind("cut_body", BOTH, "delivery", "Half of the body comes, then the connection ends.", {}),
    Kind("garbled_json", BOTH, "delivery", "The body is not JSON, though its type says so.", {}),
    Kind("html", BOTH, "answer", "200 with a page, as from a captive portal, before the work.", {}),
    # OpenAI
    Kind("quota", (OPENAI,), "answer", "No money: 429 insufficient_quota.", {"code": "insufficient_quota"}),
    Kind("rate_limit", (OPENAI,), "answer", "Too many requests: 429.", {"code": "rate_limit_exceeded", "type": "requests", "retry_after": 2}),
    Kind("invalid_key", (OPENAI,), "answer", "401 invalid_api_key.", {}),
    Kind("permission_denied", (OPENAI,), "answer", "403 unsupported_country_region_territory.", {"code": "unsupported_country_region_territory"}),
    Kind("model_not_found", (OPENAI,), "answer", "404 model_not_found.", {}),
    Kind("context_length", (OPENAI,), "answer", "400 context_length_exceeded.", {}),
    Kind("content_filter", (OPENAI,), "answer", "400 content_filter: the topic was refused.", {}),
    Kind("server_error", (OPENAI,), "answer", "500 server_error.", {}),
    Kind("service_unavailable", (OPENAI,), "answer", "503 of the older form.", {"retry_after": None}),
    Kind("overloaded", (OPENAI,), "answer", "503 server_is_overloaded.", {"retry_after": None}),
    Kind("error_in_200", (OPENAI,), "answer", "An error object under status 200.", {}),
    Kind("truncated", (OPENAI,), "condition", "The article stops in the middle: finish_reason length.", {}),
    Kind("filtered", (OPENAI,), "condition", "The article is withheld: finish_reason content_filter.", {}),
    Kind("empty_choices", (OPENAI,), "condition", "200 without a choice.", {}),
    Kind("null_content", (OPENAI,), "condition", "200 with content null.", {}),
    Kind("refusal", (OPENAI,), "condition", "200 with a refusal in place of the content.", {}),
    Kind("content", (OPENAI,), "condition", "200 with this text as the message's content.", {"content": ""}),
    Kind("article", (OPENAI,), "condition", "The article with these fields replaced.", {"fields": {}}),
    # WordPress
    Kind("redirect", (WORDPRESS,), "answer", "A redirect before the work; to https, or `location` and the same path.", {"status": 301, "location": None}),
    Kind("slow", (WORDPRESS,), "answer", "The site waits before it does the work, then answers.", {"delay_seconds": 5.0}),
    Kind("answer_lost", (WORDPRESS,), "answer", "The work is done, its answer lost: how is status, cut, silence or reset.", {"how": "status", "status": 504, "silence_seconds": 3600.0}),
    Kind("commit_delay", (WORDPRESS,), "answer", "The work is done only later, also if the client went away; answer is late, silence, reset or status.", {"delay_seconds": 5.0, "answer": "late", "status": 504, "silence_seconds": 3600.0}),
    Kind("maintenance", (WORDPRESS,), "answer", "503 with Retry-After 600.", {"retry_after": 600}),
    Kind("database_error", (WORDPRESS,), "answer", "500: no database connection.", {}),
    Kind("fatal_error", (WORDPRESS,), "answer", "500: a plugin's fatal error, as a page.", {}),
    Kind("notice", (WORDPRESS,), "delivery", "The work is done; a PHP warning is printed before the JSON.", {}),
    Kind("rest_forbidden", (WORDPRESS,), "condition", "A plugin forbids the REST API to everybody.", {}),
    Kind("rest_requires_login", (WORDPRESS,), "condition", "A plugin forbids the REST API to the public.", {}),
    Kind("plain_permalinks", (WORDPRESS,), "condition", "/wp-json redirects; only ?rest_route= works.", {}),
    Kind("no_rest_api", (WORDPRESS,), "condition", "404 pages in place of the REST API: a wrong base address.", {}),
    Kind("strip_auth", (WORDPRESS,), "condition", "The web server drops the Authorization header.", {}),
    Kind("no_application_passwords", (WORDPRESS,), "condition", "Application passwords are switched off.", {}),
    Kind("login_revoked", (WORDPRESS,), "condition", "The application password was revoked.", {}),
    Kind("security_plugin", (WORDPRESS,), "condition", "A plugin looks at logins early: wrong ones are 401 incorrect_password.", {}),
    Kind("permission_lost", (WORDPRESS,), "condition", "The user's role was lowered.", {"role": "subscriber"}),
    Kind("category_deleted", (WORDPRESS,), "condition", "A category (name or slug) is gone; without one, all.", {"category": None}),
    Kind("answer_differs", (WORDPRESS,), "condition", "The site changes what it is given: these fields of the post.", {"fields": {}}),
)  # fmt: skip

_CHOICES: dict[str, tuple[Any, ...]] = {
    "body": ("html", "json", "empty"),
    "how": ("status", "cut", "silence", "reset"),
    "answer": ("late", "silence", "reset", "status"),
    "role": ("administrator", "editor", "author", "contributor", "subscriber", "none"),
}


@dataclass(frozen=True)
class Fault:
    """One switch that is on. Matching: every part that is given must hold.

    `path` and `topic` are texts that must occur in the address or the body; `count` is how many
    requests it still strikes (None: any number); `above`: only while more requests than that are under way
    at the provider; `until` is the time (seconds since 1970) of its end.
    """

    provider: str
    kind: str
    method: str | None = None
    path: str | None = None
    model: str | None = None
    topic: str | None = None
    count: int | None = None
    above: int | None = None
    probability: float = 1.0
    until: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    fault_id: int = 0
    struck: int = 0

    @property
    def group(self) -> str:
        return KINDS[self.provider, self.kind].group

    def option(self, name: str) -> Any:
        return self.options.get(name, KINDS[self.provider, self.kind].options[name])

    def matches(self, provider: str, request: Request, now: float, under_way: int) -> bool:
        return (
            self.provider == provider
            and (self.above is None or under_way > self.above)
            and (self.count is None or self.count > 0)
            and (self.until is None or now < self.until)
            and (self.kind != "commit_delay" or request.method not in ("GET", "HEAD", "OPTIONS"))
            and (self.method is None or self.method == request.method)
            and (
                self.path is None
                or self.path in f"{request.path}?{request.target.partition('?')[2]}"
            )
            and (self.topic is None or self.topic.casefold() in request.text.casefold())
            and (self.model is None or f'"model": "{self.model}"' in request.text)
        )


_MATCHING = {each.name for each in fields(Fault)} - {"options", "fault_id", "struck", "until"}


def read_fault(description: dict[str, Any], now: float) -> Fault:
    """The fault that a JSON object describes. Raises `FaultRefused`."""
    provider, name = description.get("provider"), description.get("kind")
    kind = KINDS.get((str(provider), str(name)))
    if kind is None:
        known = ", ".join(sorted(each for owner, each in KINDS if owner == provider))
        raise FaultRefused(
            f"There is no fault {name!r} of {provider!r}. "
            + (f"Known: {known}." if known else "Providers: openai, wordpress.")
        )
    given = {key: value for key, value in description.items() if value is not None}
    duration = given.pop("duration_seconds", None)
    options = {key: value for key, value in given.items() if key not in _MATCHING}
    if unknown := sorted(set(options) - set(kind.options)):
        known = ", ".join(sorted([*kind.options, *_MATCHING, "duration_seconds"]))
        raise FaultRefused(f"{name} does not take {', '.join(unknown)}. It takes {known}.")
    for key, value in options.items():
        _check_option(key, value, kind.options[key])
    fault = Fault(
        **{key: value for key, value in given.items() if key in _MATCHING}, options=options
    )
    _check_matching(fault, duration)
    return replace(fault, until=None if duration is None else now + duration)


def _check_option(name: str, value: Any, default: Any) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise FaultRefused(f"{name} is one of {', '.join(_CHOICES[name])}, not {value!r}.")
    if isinstance(default, float) and not (_is_number(value) and value >= 0):
        raise FaultRefused(f"{name} is a number of seconds, not {value!r}.")
    if name == "status" and not (isinstance(value, int) and 200 <= value <= 599):
        raise FaultRefused(f"status is between 200 and 599, not {value!r}.")
    if isinstance(default, dict) and not isinstance(value, dict):
        raise FaultRefused(f"{name} is an object, not {value!r}.")
    if name != "content" and isinstance(value, str) and not value.isprintable():
        raise FaultRefused(f"{name} holds a character that cannot be printed.")


def _check_matching(fault: Fault, duration: Any) -> None:
    if not (_is_number(fault.probability) and 0 <= fault.probability <= 1):
        raise FaultRefused(f"probability is between 0 and 1, not {fault.probability!r}.")
    for name in ("count", "above"):
        value = getattr(fault, name)
        if value is not None and not (isinstance(value, int) and value > 0):
            raise FaultRefused(f"{name} is a whole number from 1, not {value!r}.")
    if duration is not None and not (_is_number(duration) and duration > 0):
        raise FaultRefused(f"duration_seconds is a positive number, not {duration!r}.")
    for name in ("method", "path", "model", "topic"):
        value = getattr(fault, name)
        if value is not None and not isinstance(value, str):
            raise FaultRefused(f"{name} is a text, not {value!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Struck:
    """What strikes one request."""

    conditions: tuple[Fault, ...] = ()
    fault: Fault | None = None  # of the groups answer and delivery

    def condition(self, kind: str) -> Fault | None:
        return next((each for each in self.conditions if each.kind == kind), None)

    def names(self) -> str | None:
        """The kinds for the journal, joined by `+`."""
        kinds = [each.kind for each in (*self.conditions, *((self.fault,) if self.fault else ()))]
        return "+".join(kinds) or None


class Faults:
    """The faults that are on, kept on disk so that a restart does not end an outage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._random = random.Random()
        self._faults = [
            replace(Fault(**json.loads(row["fault"])), fault_id=row["fault_id"])
            for row in storage.rows("list_faults")
        ]

    def __iter__(self) -> Any:
        return iter(self._faults)

    def add(self, fault: Fault) -> Fault:
        fault_id = self._storage.execute("add_fault", fault=json.dumps(asdict(fault)))
        fault = replace(fault, fault_id=fault_id)
        self._faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None, provider: str | None = None) -> int:
        """Turns off one fault, those of a provider, or all; how many there were."""
        gone = [
            each
            for each in self._faults
            if fault_id in (None, each.fault_id) and provider in (None, each.provider)
        ]
        for each in gone:
            self._storage.execute("remove_fault", fault_id=each.fault_id)
        self._faults = [each for each in self._faults if each not in gone]
        return len(gone)

    def strike(self, provider: str, request: Request, under_way: int = 1) -> Struck:
        """What strikes this request; counts it. `under_way`: requests at the provider, this one too."""
        now = time.time()
        conditions: list[Fault] = []
        chosen: Fault | None = None
        for fault in self._faults:
            if fault.group != "condition" and chosen is not None:
                continue
            if not fault.matches(provider, request, now, under_way):
                continue
            if fault.probability < 1 and self._random.random() >= fault.probability:
                continue
            if fault.group == "condition":
                conditions.append(fault)
            else:
                chosen = fault
        for fault in (*conditions, *((chosen,) if chosen else ())):
            self._count(fault)
        return Struck(tuple(conditions), chosen)

    def _count(self, fault: Fault) -> None:
        left = None if fault.count is None else fault.count - 1
        counted = replace(fault, count=left, struck=fault.struck + 1)
        self._faults[self._faults.index(fault)] = counted
        if left is not None:
            self._storage.execute(
                "change_fault", fault_id=fault.fault_id, fault=json.dumps(asdict(counted))
            )
