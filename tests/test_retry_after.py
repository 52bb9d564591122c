"""How long a provider asks to wait is found wherever it says so."""

from __future__ import annotations

import pytest
from requests.structures import CaseInsensitiveDict

from runbook_lib.pipeline.retry_after import duration_seconds, openai_wait_seconds

TRY = "Rate limit reached. Please try again in 20s. Visit https://platform.openai.com"


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after-ms": "1500", "Retry-After": "9"}, TRY, 1.5),
        ({"Retry-After": "9"}, TRY, 9),
        ({"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}, TRY, 0),
        ({"Retry-After": "soon", "retry-after-ms": "-"}, TRY, 20),
        ({}, TRY, 20),
        ({}, "Please try again in 6m0s.", 360),
        ({}, "Please try again in 12ms.", 0.012),
        ({}, "Please try again in 1h2m3.5s.", 3723.5),
        ({}, "Please retry after 26 seconds.", 26),
        ({}, "Retry after 1 minute.", 60),
        ({}, "Please try again later.", None),
        ({}, "", None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, "", 360),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "6m0s"}, "", None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "-1"}, "", None),
    ],
)
def test_what_is_said_most_exactly_is_believed_first(
    headers: dict[str, str], message: str, seconds: float | None
) -> None:
    assert openai_wait_seconds(CaseInsensitiveDict(headers), message) == seconds


@pytest.mark.parametrize("text", ["", "5", "1s x", "-1s", "s", "1.2.3s", "1e3s"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration_seconds(text) is None
