"""Structured output: the checks that OpenAI makes of a strict schema, and an article poured into it."""

from __future__ import annotations

from typing import Any

from runbook_lib.sandbox.articles import Article

_TITLES = ("title", "headline", "heading")
_EXCERPTS = ("excerpt", "summary", "description", "teaser", "abstract")
_PLAIN_PROPERTIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("title", {}),
    ("excerpt", {}),
    ("body", {}),
    ("tags", {}),
)
_TAGS = ("tags", "keywords", "labels")


class SchemaRefused(ValueError):
    """The schema is not one that OpenAI takes; the message is OpenAI's."""


def check_schema(described: dict[str, Any]) -> dict[str, Any]:
    """The schema of a `json_schema` format. Raises `SchemaRefused`."""
    name, schema = described.get("name"), described.get("schema")
    if not isinstance(name, str) or not name:
        raise SchemaRefused("Missing required parameter: 'response_format.json_schema.name'.")
    if not isinstance(schema, dict):
        raise SchemaRefused("Missing required parameter: 'response_format.json_schema.schema'.")
    if described.get("strict"):
        _check_strict(name, schema, ())
    return schema


def _check_strict(name: str, schema: dict[str, Any], context: tuple[str, ...]) -> None:
    start = f"Invalid schema for response_format '{name}': In context={context}, "
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            raise SchemaRefused(
                start + "'additionalProperties' is required to be supplied and to be false."
            )
        properties = schema.get("properties", {})
        for each in properties:
            if each not in schema.get("required", ()):
                raise SchemaRefused(
                    start
                    + "'required' is required to be supplied and to be an array including every key in "
                    f"properties. Missing '{each}'."
                )
        for each, below in properties.items():
            _check_strict(name, below, (*context, "properties", each))
    if isinstance(schema.get("items"), dict):
        _check_strict(name, schema["items"], (*context, "items"))


def fill_schema(schema: dict[str, Any], article: Article) -> dict[str, Any]:
    """The article as an object of the schema: each property gets what its name asks for."""
    properties = schema.get("properties") or dict(_PLAIN_PROPERTIES)
    return {name: _fill(name, below, article) for name, below in properties.items()}


def _fill(name: str, schema: dict[str, Any], article: Article) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if kind == "object":
        return fill_schema(schema, article)
    if kind == "array" or (kind is None and name in _TAGS):
        return list(article.tags[: schema.get("maxItems", len(article.tags))])
    if kind in ("integer", "number"):
        return schema.get("minimum", article.word_count())
    if kind == "boolean":
        return True
    return _text(name.lower(), article)


def _text(name: str, article: Article) -> str:
    if any(each in name for each in _TITLES):
        return article.title
    if any(each in name for each in _EXCERPTS):
        return article.excerpt
    if "language" in name:
        return "en"
    if "slug" in name:
        return "-".join(article.title.lower().split())
    return article.body_markdown
