"""Parameters: declared by literals, checked before a kernel starts, injected as literals of ours."""

from __future__ import annotations

import ast
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.errors import UsageError
from runbook_lib.procedures.parameters import (
    ParametersRefused,
    check,
    from_texts,
    injected_source,
    parameter,
    plain,
    read_declarations,
)

SOURCE = '''
"""What a parameters cell may hold."""
from runbook_lib import parameter

keep_days = parameter(90, minimum=1, maximum=3650, unit="days", help="How long runs are kept.")
share = parameter(0.5, minimum=0, maximum=1)
site: str = parameter("main", choices=["main", "blog"])
dry_run = parameter(True)
classes = parameter(["a"])
since = parameter("2026-01-01", kind="date", minimum="2020-01-01")
until = parameter(None, kind="datetime")
budget = parameter("12.50", kind="decimal", minimum=0)
bare = 3
'''
DECLARED = read_declarations(SOURCE)


def test_a_declaration_says_what_it_takes() -> None:
    assert DECLARED["keep_days"].range_in_words() == "a whole number from 1 to 3650 days"
    assert DECLARED["site"].range_in_words() == "one of main, blog"
    assert DECLARED["until"].range_in_words().endswith("or none")
    assert DECLARED["bare"].kind == "int"
    assert DECLARED["keep_days"].help == "How long runs are kept."


def test_the_call_returns_the_default_as_its_kind() -> None:
    assert parameter(90, minimum=1, unit="days") == 90
    assert parameter("2026-01-01", kind="date") == date(2026, 1, 1)
    assert parameter(None, kind="date") is None
    assert parameter("1.5", kind="decimal") == Decimal("1.5")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = parameter(1, minimum=open('/tmp/never'))", "literals"),
        ("x = open('/tmp/never')", "only parameter"),
        ("x = parameter(1, minimun=2)", "did you mean minimum"),
        ("x = parameter(None)", "needs kind"),
        ("x = parameter(5, maximum=3)", "expected a whole number of at most 3"),
        ("x = 1\nx = 2", "line 2: x is declared twice"),
        ("print = 1", "cannot be the name"),
        ("__x = 1", "cannot be the name"),
        ("x, y = 1, 2", "expected name"),
        ("print('hello')", "expected name"),
        ("x = (", "line 1"),
        ("x = parameter('2026-13-01', kind='date')", "month"),
    ],
)
def test_whatever_is_not_a_declaration_is_refused_with_its_line(source: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_declarations(source)


def test_reading_declarations_executes_nothing(tmp_path: Any) -> None:
    witness = tmp_path / "executed"
    with pytest.raises(UsageError):
        read_declarations(f"x = parameter(__import__('pathlib').Path({str(witness)!r}).touch())")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("keep_day", 5, "did you mean keep_days"),
        ("keep_days\nimport os", 5, "no parameter 'keep_days"),
        ("keep_days", "5", "a whole number from 1 to 3650 days"),
        ("keep_days", True, "a whole number"),
        ("keep_days", 5.0, "a whole number"),
        ("keep_days", None, "a whole number"),
        ("keep_days", 0, "from 1 to 3650"),
        ("share", float("nan"), "a number"),
        ("share", 1.5, "from 0 to 1"),
        ("site", "shop", "one of main, blog"),
        ("dry_run", "false", "true or false"),
        ("classes", [object()], "a list"),
        ("classes", ("a",), "a list"),
        ("since", "yesterday", "a date such as"),
        ("since", "2019-12-31", "a date such as"),
        ("until", "2026-01-01T00:00:00", "a time such as"),  # without a zone
        ("budget", "twelve", "a decimal"),
        ("budget", Decimal("NaN"), "a decimal"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_was_given(
    name: str, value: Any, words: str
) -> None:
    with pytest.raises(ParametersRefused, match=words):
        check(DECLARED, {name: value})


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ParametersRefused) as refusal:
        check(DECLARED, {"keep_days": 0, "shar": 1, "site": "shop"})
    assert all(name in str(refusal.value) for name in ("keep_days", "shar", "site"))


def test_values_that_fit_come_back_as_their_kind() -> None:
    values = check(
        DECLARED,
        {"keep_days": 5, "share": 1, "since": "2026-05-01", "budget": "3", "until": None},
    )
    assert values == {
        "keep_days": 5, "share": 1.0, "since": date(2026, 5, 1), "budget": Decimal(3), "until": None,
    }  # fmt: skip
    assert plain(values)["since"] == "2026-05-01"


def test_texts_from_a_command_line_become_their_kind() -> None:
    texts = {"keep_days": "5", "dry_run": "no", "classes": '["b"]', "until": "none", "site": "blog"}
    assert check(DECLARED, from_texts(DECLARED, texts)) == {
        "keep_days": 5, "dry_run": False, "classes": ["b"], "until": None, "site": "blog",
    }  # fmt: skip
    with pytest.raises(ParametersRefused, match="'five'"):
        check(DECLARED, from_texts(DECLARED, {"keep_days": "five"}))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.dates() | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@given(value=st.one_of(st.text(), st.dates(), st.datetimes(timezones=st.just(UTC)),
                       st.decimals(allow_nan=False, allow_infinity=False), PLAIN.filter(
                           lambda value: isinstance(value, bool | int | float | str | None))))  # fmt: skip
def test_what_is_injected_gives_the_value_back_and_nothing_else(value: Any) -> None:
    source = injected_source({"x": value})
    assigned = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    assert len(assigned) == 1
    scope: dict[str, Any] = {}
    exec(source, scope)
    assert scope["x"] == value
    assert type(scope["x"]) is type(value) or isinstance(value, datetime)
