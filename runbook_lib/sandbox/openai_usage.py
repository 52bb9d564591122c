"""The stand-in's organization endpoints: usage and costs, for an admin key only."""

from __future__ import annotations

import time
from typing import Any

from runbook_lib.sandbox import openai_errors
from runbook_lib.sandbox.messages import Request, Response
from runbook_lib.sandbox.storage import Storage

ADMIN_KEY = "sk-admin-sandbox-"
PATH = "/v1/organization/"
WIDTHS_SECONDS = {"1m": 60, "1h": 3_600, "1d": 86_400}
MOST_BUCKETS = {"1m": 1_440, "1h": 168, "1d": 180}
# One price for all models, in US dollars for a million tokens.
INPUT_USD_PER_MILLION, OUTPUT_USD_PER_MILLION = 0.15, 0.60


class Usage:
    """Counts what completions use, and tells it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add(self, model: str, input_tokens: int, output_tokens: int) -> None:
        self._storage.execute(
            "add_usage",
            minute=int(time.time() // 60),
            model=model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )

    def answer(self, request: Request, key: str) -> Response:
        if not key.startswith(ADMIN_KEY):
            message = (
                "You have insufficient permissions for this operation. Missing scopes: api.usage.read. "
                "Check that you have the correct role in your organization, and if you're using a restricted "
                "API key, that it has the necessary scopes."
            )
            return openai_errors.refusal(403, message)
        asked = request.path.rstrip("/").removeprefix(PATH)
        if asked not in ("usage/completions", "costs") or request.method != "GET":
            return openai_errors.refusal(404, f"Invalid URL ({request.method} {request.path})")
        return self._buckets(request, costs=asked == "costs")

    def _buckets(self, request: Request, *, costs: bool) -> Response:
        start = _whole(request.query.get("start_time"))
        if start is None:
            return openai_errors.refusal(
                400, "Missing required parameter: 'start_time'.", parameter="start_time",
                code="missing_required_parameter",
            )  # fmt: skip
        named = request.query.get("bucket_width", "1d")
        if named not in WIDTHS_SECONDS or (costs and named != "1d"):
            return openai_errors.refusal(
                400, f"Invalid value: '{named}'.", parameter="bucket_width", code="invalid_value"
            )
        width = WIDTHS_SECONDS[named]
        start -= start % width
        end = _whole(request.query.get("end_time")) or int(time.time()) + 1
        limit = min(_whole(request.query.get("limit")) or 7, MOST_BUCKETS[named])
        moments = range(start, end, width)[:limit]
        used: dict[int, list[dict[str, Any]]] = {moment: [] for moment in moments}
        rows = self._storage.rows(
            "usage_by_bucket", start=start, end=min(end, start + limit * width), width=width
        )
        for row in rows:
            used[row["start_time"]].append(row)
        by_model = "model" in request.query.get("group_by", "")
        data = [_bucket(moment, width, used[moment], costs, by_model) for moment in moments]
        return Response.of_json(
            200, {"object": "page", "data": data, "has_more": False, "next_page": None}
        )


def _bucket(
    start: int, width: int, rows: list[dict[str, Any]], costs: bool, by_model: bool
) -> dict[str, Any]:
    bucket: dict[str, Any] = {"object": "bucket", "start_time": start, "end_time": start + width}
    if costs:
        usd = sum(_usd(row) for row in rows)
        results = [_cost(usd)] if rows else []
    else:
        groups = [[row] for row in rows] if by_model else [rows] if rows else []
        results = [_used(group, by_model) for group in groups]
    return {**bucket, "results": results}


def _used(rows: list[dict[str, Any]], by_model: bool) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": sum(row["input_tokens"] for row in rows),
        "output_tokens": sum(row["output_tokens"] for row in rows),
        "input_cached_tokens": 0,
        "num_model_requests": sum(row["requests"] for row in rows),
        "model": rows[0]["model"] if by_model else None,
        "project_id": None,
    }


def _cost(usd: float) -> dict[str, Any]:
    amount = {"value": round(usd, 6), "currency": "usd"}
    return {
        "object": "organization.costs.result",
        "amount": amount,
        "line_item": None,
        "project_id": None,
    }


def _usd(row: dict[str, Any]) -> float:
    return float(
        (
            row["input_tokens"] * INPUT_USD_PER_MILLION
            + row["output_tokens"] * OUTPUT_USD_PER_MILLION
        )
        / 1e6
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 12 else None
