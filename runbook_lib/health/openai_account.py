"""What OpenAI says of the account: usage and costs, which only an admin key may ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from runbook_lib import known_secrets
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.pipeline.transport import ExchangeFailed, Transport
from runbook_lib.pipeline.wordpress_answers import plain, short

DAYS = 7


@dataclass(frozen=True)
class Day:
    """What was used on one day (UTC)."""

    start_time: int
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def usage_by_day(
    base_url: str, admin_key: Callable[[], str], since: int, deadline: Deadline
) -> list[Day]:
    """Requests and tokens of the organization by day, oldest first. Raises `CouldNotBeDone`."""
    return [
        Day(
            int(bucket["start_time"]),
            _sum(bucket, "num_model_requests"),
            _sum(bucket, "input_tokens"),
            _sum(bucket, "output_tokens"),
        )
        for bucket in _ask(base_url, admin_key, "usage/completions", since, deadline)
    ]


def costs_by_day(
    base_url: str, admin_key: Callable[[], str], since: int, deadline: Deadline
) -> list[Day]:
    """Costs of the organization by day in US dollars, oldest first. Raises `CouldNotBeDone`."""
    return [
        Day(
            int(bucket["start_time"]),
            cost_usd=sum(
                float(found["amount"]["value"])
                for found in bucket.get("results") or ()
                if found.get("amount")
            ),
        )
        for bucket in _ask(base_url, admin_key, "costs", since, deadline)
    ]


def _sum(bucket: dict[str, Any], name: str) -> int:
    return sum(int(found.get(name) or 0) for found in bucket.get("results") or ())


def _ask(
    base_url: str, admin_key: Callable[[], str], path: str, since: int, deadline: Deadline
) -> list[dict[str, Any]]:
    key = admin_key()
    known_secrets.register(key, "OPENAI_ADMIN_KEY")
    query = urlencode({"start_time": since, "bucket_width": "1d", "limit": DAYS + 1})
    transport = Transport(connections=1)
    try:
        answer = transport.exchange(
            "GET",
            f"{base_url.rstrip('/')}/organization/{path}?{query}",
            deadline=deadline,
            headers={
                "Authorization": f"Bearer {key}",
                "Accept": "application/json",
                "User-Agent": "runbook-workbench",
            },
        )
        found = json.loads(answer.body)
        if answer.status == 200 and isinstance(found, dict) and isinstance(found.get("data"), list):
            return list(found["data"])
    except ExchangeFailed as error:
        raise CouldNotBeDone(f"OpenAI was asked for {path}: {error}.") from None
    except ValueError:
        raise CouldNotBeDone(f"OpenAI was asked for {path} and answered {answer.status} without JSON.") from None  # fmt: skip
    finally:
        transport.close()
    told = found.get("error") if isinstance(found, dict) else None
    words = short(plain(str(told.get("message", "")))) if isinstance(told, dict) else ""
    raise CouldNotBeDone(f"OpenAI refused {path} with {answer.status}. {words}")
