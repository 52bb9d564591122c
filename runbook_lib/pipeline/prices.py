"""What a call to OpenAI cost.

Standard prices of developers.openai.com/api/docs/pricing in US dollars for a million tokens, as of
2026-11-05; models that are gone from that page stand with their last price. RUNBOOK_MODEL_PRICES adds
models and replaces prices.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from decimal import Decimal

from runbook_lib.settings import ModelPrice

PRICES_AS_OF = "2026-11-05"
TOKENS_IN_PRICE = 1_000_000
_CENTS_FRACTION = Decimal("0.000001")  # as job_runs.cost_usd stores it
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")

_log = logging.getLogger(__name__)


def _price(input_usd: str, output_usd: str, cached_input_usd: str | None = None) -> ModelPrice:
    return ModelPrice(
        input_usd_per_million=Decimal(input_usd),
        output_usd_per_million=Decimal(output_usd),
        cached_input_usd_per_million=Decimal(cached_input_usd) if cached_input_usd else None,
    )


PRICES: Mapping[str, ModelPrice] = {
    "gpt-5.5": _price("5.00", "30.00", "0.50"),
    "gpt-5.4": _price("2.50", "15.00", "0.25"),
    "gpt-5.4-mini": _price("0.75", "4.50", "0.075"),
    "gpt-5.4-nano": _price("0.20", "1.25", "0.02"),
    "gpt-5.2": _price("1.75", "14.00", "0.175"),
    "gpt-5.1": _price("1.25", "10.00", "0.125"),
    "gpt-5": _price("1.25", "10.00", "0.125"),
    "gpt-5-mini": _price("0.25", "2.00", "0.025"),
    "gpt-5-nano": _price("0.05", "0.40", "0.005"),
    "gpt-4.1": _price("2.00", "8.00", "0.50"),
    "gpt-4.1-mini": _price("0.40", "1.60", "0.10"),
    "gpt-4.1-nano": _price("0.10", "0.40", "0.025"),
    "gpt-4o": _price("2.50", "10.00", "1.25"),
    "gpt-4o-mini": _price("0.15", "0.60", "0.075"),
    "o3": _price("2.00", "8.00", "0.50"),
    "o4-mini": _price("1.10", "4.40", "0.275"),
    "gpt-4-turbo": _price("10.00", "30.00"),
    "gpt-3.5-turbo": _price("0.50", "1.50"),
}


class PriceList:
    """Prices by model; threads may share it. Prices given here stand over the built-in ones."""

    def __init__(self, own: Mapping[str, ModelPrice] | None = None) -> None:
        self._prices = {**PRICES, **(own or {})}
        self._unknown: set[str] = set()

    def price(self, *models: str) -> ModelPrice | None:
        """The price of the first of these names that has one; a snapshot costs what its model costs."""
        for model in models:
            for name in (model, _SNAPSHOT.sub("", model)):
                if name in self._prices:
                    return self._prices[name]
        return None

    def cost_usd(
        self,
        *models: str,
        prompt_tokens: int,
        completion_tokens: int,
        cached_prompt_tokens: int = 0,
    ) -> Decimal | None:
        """The cost of one call in US dollars, rounded up to a millionth; None for an unknown model.

        `models` are names for the same model, e.g. what answered and what was asked for.
        `cached_prompt_tokens` are a part of `prompt_tokens`. An unknown model is logged once.
        """
        price = self.price(*models)
        if price is None:
            self._say_unknown(models[0])
            return None
        cached = min(max(cached_prompt_tokens, 0), prompt_tokens)
        cached_price = price.cached_input_usd_per_million
        if cached_price is None:
            cached_price = price.input_usd_per_million
        total = (
            (prompt_tokens - cached) * price.input_usd_per_million
            + cached * cached_price
            + completion_tokens * price.output_usd_per_million
        )
        return (total / TOKENS_IN_PRICE).quantize(_CENTS_FRACTION, rounding="ROUND_CEILING")

    def _say_unknown(self, model: str) -> None:
        if model not in self._unknown:
            self._unknown.add(model)
            _log.warning(
                "No price is known for model %s: its calls are recorded without a cost, and a daily "
                "cost cap does not count them. Set RUNBOOK_MODEL_PRICES, or a daily token cap.",
                model,
            )
