"""What a call cost: the built-in price list, own prices, and models that nobody knows."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest

from runbook_lib.errors import ConfigurationError
from runbook_lib.pipeline.prices import PRICES, PriceList
from runbook_lib.settings import ModelPrice, read_settings

OWN = ModelPrice(input_usd_per_million=Decimal(1), output_usd_per_million=Decimal(3))


def test_the_cost_is_the_sum_of_input_cached_input_and_output_at_their_prices() -> None:
    cost = PriceList().cost_usd(
        "gpt-4o-mini", prompt_tokens=1_000, completion_tokens=2_000, cached_prompt_tokens=400
    )
    assert cost == Decimal("0.00132")  # 600 × 0.15 + 400 × 0.075 + 2,000 × 0.60, a million each


def test_a_price_without_a_cached_one_counts_cached_input_in_full() -> None:
    prices = PriceList({"own": OWN})
    cost = prices.cost_usd("own", prompt_tokens=10, completion_tokens=0, cached_prompt_tokens=10)
    assert cost == Decimal("0.00001")


def test_a_fraction_of_a_millionth_is_rounded_up_so_that_caps_never_count_too_little() -> None:
    assert PriceList().cost_usd("gpt-5-nano", prompt_tokens=1, completion_tokens=0) == Decimal(
        "0.000001"
    )


def test_more_cached_tokens_than_tokens_never_make_a_call_cheaper_than_its_cached_price() -> None:
    cost = PriceList().cost_usd(
        "gpt-4o", prompt_tokens=100, completion_tokens=0, cached_prompt_tokens=1_000_000
    )
    assert cost == Decimal("0.000125")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4.1-2025-04-14", "gpt-4.1"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
    ],
)
def test_a_dated_snapshot_costs_what_its_model_costs(name: str, model: str) -> None:
    assert PriceList().price(name) == PRICES[model]


def test_a_smaller_sibling_is_never_taken_for_its_model() -> None:
    assert PriceList().price("gpt-4o-audio") is None


def test_the_model_that_was_asked_for_gives_the_price_when_the_answer_names_an_unknown_one() -> (
    None
):
    assert PriceList().price("chatcmpl-gateway", "gpt-4o") == PRICES["gpt-4o"]


def test_an_unknown_model_costs_none_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    prices = PriceList()
    with caplog.at_level(logging.WARNING):
        found = [
            prices.cost_usd("nobody-1", prompt_tokens=1, completion_tokens=1) for _ in range(3)
        ]
    assert found == [None, None, None]
    assert [record.getMessage().count("nobody-1") for record in caplog.records] == [1]


def test_own_prices_stand_over_the_built_in_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "RUNBOOK_MODEL_PRICES",
        '{"gpt-4o": {"input_usd_per_million": 1, "output_usd_per_million": "3"}}',
    )
    prices = PriceList(read_settings(None).runbook_model_prices)
    assert prices.price("gpt-4o") == OWN
    assert prices.price("gpt-4o-mini") == PRICES["gpt-4o-mini"]


@pytest.mark.parametrize(
    "value",
    [
        "nonsense",
        "[]",
        '{"m": {"input_usd_per_million": -1, "output_usd_per_million": 1}}',
        '{"m": {"input": 1, "output": 1}}',
    ],
)
def test_prices_that_do_not_fit_are_refused_by_the_name_of_their_setting(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_MODEL_PRICES", value)
    with pytest.raises(ConfigurationError, match="RUNBOOK_MODEL_PRICES"):
        read_settings(None)
