"""A site's categories and tags by name. WordPress takes only ids, and drops unknown ones in silence."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.wordpress_answers import (
    code_of,
    header_number,
    is_id,
    read_items,
    read_object,
)
from runbook_lib.pipeline.wordpress_connection import WordPressConnection

ITEMS_A_PAGE = 100  # the most that WordPress gives
MOST_PAGES = 100
LONGEST_NAME_CHARACTERS = 200


class _Category(NamedTuple):
    category_id: int
    parent_id: int
    name: str
    slug: str


class WordPressTerms:
    """Looks categories and tags up, and remembers them for `cache_seconds`. Threads may share it."""

    def __init__(self, connection: WordPressConnection, *, cache_seconds: float) -> None:
        self._connection = connection
        self._cache_seconds = cache_seconds
        self.forget()

    def forget(self) -> None:
        # Replaced whole and never changed in place where another thread could see it half-filled.
        self._categories: tuple[float, list[_Category]] = (0.0, [])
        self._tags: dict[str, tuple[float, int]] = {}

    def category_id(self, name: str, deadline: Deadline) -> int | None:
        """The id of a category by its name or slug, whatever its case; None when there is none.

        The list is cached and read again on a miss: a category that was just made is found.
        """
        wanted = _folded(name)
        until, categories = self._categories
        found = _best(wanted, categories) if until > time.monotonic() else None
        if found is None:
            categories = list(self._read_categories(deadline))
            self._categories = (time.monotonic() + self._cache_seconds, categories)
            found = _best(wanted, categories)
        return found

    def tag_ids(self, names: Sequence[str], deadline: Deadline) -> tuple[int, ...]:
        """The ids of tags, made where they do not exist; a tag that the user may not make is left out."""
        found = [
            self._tag_id(" ".join(name.split())[:LONGEST_NAME_CHARACTERS], deadline)
            for name in names
        ]
        return tuple(dict.fromkeys(tag_id for tag_id in found if tag_id is not None))

    def _tag_id(self, name: str, deadline: Deadline) -> int | None:
        if not name:
            return None
        until, known = self._tags.get(_folded(name), (0.0, 0))
        if until > time.monotonic():
            return known
        answer = self._connection.request("POST", "tags", deadline, fields={"name": name})
        found = read_object(answer) or {}
        tag_id = _existing_id(found) if code_of(answer) == "term_exists" else found.get("id")
        if answer.status == 403 and code_of(answer) == "rest_cannot_create":
            return None
        if answer.status not in (201, 400) or not is_id(tag_id):
            raise JobFailed(self._connection.refusal(answer, "POST tags"))
        self._tags[_folded(name)] = (time.monotonic() + self._cache_seconds, tag_id)
        return tag_id

    def _read_categories(self, deadline: Deadline) -> Iterator[_Category]:
        for page in range(1, MOST_PAGES + 1):
            query = {
                "per_page": ITEMS_A_PAGE,
                "page": page,
                "orderby": "id",
                "_fields": "id,parent,name,slug",
            }
            answer = self._connection.request("GET", "categories", deadline, query=query)
            items = read_items(answer)
            if items is None:
                raise JobFailed(self._connection.refusal(answer, "GET categories"))
            for each in items:
                name, slug = str(each.get("name", "")), str(each.get("slug", ""))
                yield _Category(each["id"], each.get("parent") or 0, _folded(name), _folded(slug))
            if page >= header_number(answer, "X-WP-TotalPages"):
                return


def _best(wanted: str, categories: Sequence[_Category]) -> int | None:
    # People write names; a slug counts when no name fits. Of several, the one at the top, then the oldest.
    by_name = [each for each in categories if each.name == wanted]
    fitting = by_name or [each for each in categories if each.slug == wanted]
    if not fitting:
        return None
    return min(fitting, key=lambda each: (each.parent_id != 0, each.category_id)).category_id


def _existing_id(refusal: dict[str, Any]) -> Any:
    data = refusal.get("data")
    tag_id = data.get("term_id") if isinstance(data, dict) else None
    return int(tag_id) if isinstance(tag_id, str) and tag_id.isdigit() else tag_id


def _folded(name: str) -> str:
    return " ".join(html.unescape(name).split()).casefold()
