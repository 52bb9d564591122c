"""What WordPress's answers mean, where a rule is more than a table of statuses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runbook_lib.pipeline.retry_after import retry_after_seconds
from runbook_lib.pipeline.transport import Answer
from runbook_lib.pipeline.wordpress_answers import read_json, refusal

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def told(body: str, status: int = 200, **headers: str) -> Answer:
    return Answer(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, body.encode()
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 5}',
        '\ufeff{"id": 5}',
        '<br />\n<b>Warning</b>: Undefined array key [0] in {closure} on line <b>12</b><br />\n{"id": 5}',
        '{"id": 5}\n<br />\n<b>Notice</b>: [1] printed at the end',
        '[] {} [0] {"id": 5}',
    ],
)
def test_the_json_is_found_among_printed_warnings(text: str) -> None:
    assert read_json(told(text)) == {"id": 5}


@pytest.mark.parametrize("text", ["", "<html></html>", '{"id": 5', "[" * 100_000, "{" * 5_000])
def test_what_holds_no_json_is_no_json(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read_json(told(text))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("Tue, 24 Nov 2026 12:01:30 GMT", 90),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"Retry-After": text}, NOW) == seconds


def test_a_page_is_told_by_its_title_and_not_by_its_body() -> None:
    page = told("<html><TITLE>Briefly\n away</TITLE><body>secret</body>", 502)
    assert (
        refusal(page, "GET posts").message
        == "GET posts was answered 502 with a page titled 'Briefly away'."
    )


def test_a_message_stays_one_short_line() -> None:
    failure = refusal(told('{"code": "x", "message": "%s"}' % ("long\\n" * 500), 400), "POST posts")
    assert len(failure.message) < 400
    assert "\n" not in failure.message
