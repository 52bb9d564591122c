"""Categories and tags of the stand-in WordPress."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.sandbox.faults import Struck
from runbook_lib.sandbox.storage import Row, Storage
from runbook_lib.sandbox.wordpress_refusals import Problems, Refused, is_true, not_allowed, page_of
from runbook_lib.sandbox.wordpress_text import escape_lone_ampersands, slug_of
from runbook_lib.sandbox.wordpress_users import User

DEFAULT_CATEGORY_ID = 1
LONGEST_NAME_CHARACTERS = 200
_ORDERS = ("id", "include", "name", "slug", "include_slugs", "term_group", "description", "count")


@dataclass(frozen=True)
class Taxonomy:
    """Categories or tags: their name in the database, in addresses, and who may make them."""

    name: str
    base: str
    path: str
    create_capability: str
    hierarchical: bool


CATEGORIES = Taxonomy("category", "categories", "category", "manage_categories", True)
TAGS = Taxonomy("post_tag", "tags", "tag", "edit_posts", False)
TAXONOMIES = {each.base: each for each in (CATEGORIES, TAGS)}


class Terms:
    """Reads and writes terms."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        if not storage.rows("list_term_ids", taxonomy="category"):
            for name in ("Uncategorized", "News", "Guides"):
                self.ensure(CATEGORIES, name)

    def ensure(self, taxonomy: Taxonomy, name: str) -> int:
        """The id of a term by its name, made if it is absent."""
        found = self._named(taxonomy, _clean_name(name), 0)
        return found["term_id"] if found else self._add(taxonomy, _clean_name(name), "", "", 0)

    def all(self, taxonomy: Taxonomy, struck: Struck) -> list[Row]:
        """Every term but the categories that a fault deleted."""
        rows = self._storage.rows("list_terms", taxonomy=taxonomy.name)
        return [row for row in rows if not is_deleted(row, struck)]

    def known_ids(self, taxonomy: Taxonomy, struck: Struck) -> set[int]:
        rows = self._storage.rows("list_term_ids", taxonomy=taxonomy.name)
        return {row["term_id"] for row in rows if not is_deleted(row, struck)}

    def page(
        self, taxonomy: Taxonomy, query: Mapping[str, str], user: User | None, struck: Struck
    ) -> tuple[list[Row], int, int]:
        """The terms of a page, how many there are, and on how many pages."""
        problems = Problems()
        page, per_page = page_of(query, problems)
        problems.choice("orderby", query.get("orderby", "name"), _ORDERS)
        include = problems.ids("include", query["include"]) if "include" in query else None
        exclude = problems.ids("exclude", query["exclude"]) if "exclude" in query else []
        problems.raise_if_any()
        _require_context(query, user)
        rows = self.all(taxonomy, struck)
        if "slug" in query:
            slugs = {slug_of(each) for each in query["slug"].split(",")}
            rows = [row for row in rows if row["slug"] in slugs]
        if "search" in query:
            wanted = query["search"].casefold()
            rows = [
                row
                for row in rows
                if wanted in html.unescape(row["name"]).casefold() or wanted in row["slug"]
            ]
        if include is not None:
            rows = [row for row in rows if row["term_id"] in include]
        if "parent" in query:
            rows = [row for row in rows if str(row["parent"]) == query["parent"]]
        if "post" in query:
            of_post = {
                each["term_id"]
                for each in self._storage.rows("terms_of_post", post_id=query["post"])
            }
            rows = [row for row in rows if row["term_id"] in of_post]
        if is_true(query.get("hide_empty")):
            rows = [row for row in rows if row["count"]]
        rows = [row for row in rows if row["term_id"] not in exclude]
        _sort(rows, query, include)
        start = (page - 1) * per_page
        return rows[start : start + per_page], len(rows), -(-len(rows) // per_page)

    def find(self, taxonomy: Taxonomy, term_id: int, struck: Struck) -> Row:
        """One term. Raises `Refused`."""
        row = self._storage.row("find_term", taxonomy=taxonomy.name, term_id=term_id)
        if row is None or is_deleted(row, struck):
            raise Refused(404, "rest_term_invalid", "Term does not exist.")
        return row

    def create(
        self, taxonomy: Taxonomy, body: Mapping[str, Any], user: User | None, struck: Struck
    ) -> Row:
        """A new term. Raises `Refused`; for an existing one with its id in `data.term_id`."""
        if "name" not in body:
            raise Refused(400, "rest_missing_callback_param", "Missing parameter(s): name", {"status": 400, "params": ["name"]})  # fmt: skip
        if user is None or not user.may(taxonomy.create_capability):
            raise not_allowed(user is not None, "rest_cannot_create", "Sorry, you are not allowed to create terms in this taxonomy.")  # fmt: skip
        name, parent = _clean_name(str(body["name"])), self._parent(taxonomy, body, struck)
        if not name:
            raise Refused(500, "empty_term_name", "A name is required for this term.", None)
        if len(html.unescape(name)) > LONGEST_NAME_CHARACTERS:
            message = "WordPress database error: Processing the value for the following field failed: name. The supplied value may be too long or contains invalid data."
            raise Refused(
                500, "db_insert_error", "Could not insert term into the database.", message
            )
        existing = self._named(taxonomy, name, parent, slug_of(str(body.get("slug") or "")))
        if existing is not None:
            where = "with this parent" if taxonomy.hierarchical else "in this taxonomy"
            term_id = existing["term_id"]
            raise Refused(400, "term_exists", f"A term with the name provided already exists {where}.", {"status": 400, "term_id": term_id}, additional_data=[term_id, term_id])  # fmt: skip
        made = self._add(
            taxonomy, name, str(body.get("slug") or ""), str(body.get("description") or ""), parent
        )
        return self.find(taxonomy, made, struck)

    def change(
        self,
        taxonomy: Taxonomy,
        term_id: int,
        body: Mapping[str, Any],
        user: User | None,
        struck: Struck,
    ) -> Row:
        """Changes a term. Raises `Refused`."""
        row = self.find(taxonomy, term_id, struck)
        if user is None or not user.may("manage_categories"):
            raise not_allowed(
                user is not None,
                "rest_cannot_update",
                "Sorry, you are not allowed to edit this term.",
            )
        name = _clean_name(str(body["name"])) if "name" in body else row["name"]
        name = name or row["name"]
        slug = (
            self._free_slug(slug_of(str(body["slug"])), row["slug"])
            if body.get("slug")
            else row["slug"]
        )
        self._storage.execute(
            "change_term",
            term_id=term_id,
            name=name,
            folded_name=name.casefold(),
            slug=slug,
            description=str(body.get("description", row["description"])),
            parent=self._parent(taxonomy, body, struck) if "parent" in body else row["parent"],
        )
        return self.find(taxonomy, term_id, struck)

    def delete(
        self, taxonomy: Taxonomy, term_id: int, force: bool, user: User | None, struck: Struck
    ) -> Row:
        """Removes a term; posts that had no other category get the default one. Raises `Refused`."""
        row = self.find(taxonomy, term_id, struck)
        if user is None or not user.may("manage_categories"):
            raise not_allowed(
                user is not None,
                "rest_cannot_delete",
                "Sorry, you are not allowed to delete this term.",
            )
        if not force:
            raise Refused(
                501,
                "rest_trash_not_supported",
                "Terms do not support trashing. Set 'force=true' to delete.",
            )
        if taxonomy is CATEGORIES and term_id == DEFAULT_CATEGORY_ID:
            raise Refused(500, "rest_cannot_delete", "The term cannot be deleted.")
        with self._storage.transaction():
            if taxonomy is CATEGORIES:
                for post in self._storage.rows("posts_only_in_term", term_id=term_id):
                    self._storage.execute(
                        "add_post_term", post_id=post["post_id"], term_id=DEFAULT_CATEGORY_ID
                    )
            self._storage.execute("lift_child_terms", term_id=term_id, parent=row["parent"])
            self._storage.execute("remove_term", term_id=term_id)
        return row

    def describe(self, taxonomy: Taxonomy, row: Row, site: str) -> dict[str, Any]:
        """The term as the REST API shows it."""
        base = f"{site}/wp-json/wp/v2/{taxonomy.base}"
        shown = {
            "id": row["term_id"],
            "count": row["count"],
            "description": row["description"],
            "link": f"{site}/{taxonomy.path}/{self._path(taxonomy, row)}/",
            "name": row["name"],
            "slug": row["slug"],
            "taxonomy": taxonomy.name,
        }
        if taxonomy.hierarchical:
            shown["parent"] = row["parent"]
        links = {"self": [{"href": f"{base}/{row['term_id']}"}], "collection": [{"href": base}]}
        return {**shown, "meta": [], "_links": links}

    def _path(self, taxonomy: Taxonomy, row: Row) -> str:
        slugs = [row["slug"]]
        while row["parent"]:
            above = self._storage.row("find_term", taxonomy=taxonomy.name, term_id=row["parent"])
            if above is None:
                break
            row = above
            slugs.insert(0, row["slug"])
        return "/".join(slugs)

    def _parent(self, taxonomy: Taxonomy, body: Mapping[str, Any], struck: Struck) -> int:
        if not taxonomy.hierarchical or not body.get("parent"):
            return 0
        problems = Problems()
        parent = problems.number("parent", body["parent"], 0, None)
        problems.raise_if_any()
        if parent not in self.known_ids(taxonomy, struck):
            raise Refused(400, "rest_term_invalid", "Parent term does not exist.")
        return parent

    def _named(self, taxonomy: Taxonomy, name: str, parent: int, slug: str = "") -> Row | None:
        found = self._storage.rows(
            "find_terms_named", taxonomy=taxonomy.name, folded_name=name.casefold()
        )
        return next(
            (row for row in found if row["parent"] == parent and slug in ("", row["slug"])), None
        )

    def _add(self, taxonomy: Taxonomy, name: str, slug: str, description: str, parent: int) -> int:
        slug = self._free_slug(slug_of(slug or name))
        return self._storage.execute(
            "add_term",
            taxonomy=taxonomy.name,
            name=name,
            folded_name=name.casefold(),
            slug=slug,
            description=description,
            parent=parent,
        )

    def _free_slug(self, slug: str, own: str | None = None) -> str:
        tried, suffix = slug, 1
        while tried != own and self._storage.value("count_slug_of_terms", slug=tried):
            suffix += 1
            tried = f"{slug}-{suffix}"
        return tried


def is_deleted(row: Row, struck: Struck) -> bool:
    """Whether a fault says that this category is gone."""
    if row["taxonomy"] != "category":
        return False
    for fault in struck.conditions:
        if fault.kind == "category_deleted":
            wanted = fault.option("category")
            if wanted is None and row["term_id"] != DEFAULT_CATEGORY_ID:
                return True
            if wanted is not None and str(wanted).casefold() in (
                row["slug"],
                html.unescape(row["name"]).casefold(),
            ):
                return True
    return False


def _clean_name(name: str) -> str:
    name = " ".join(re.sub(r"<[^>]*>", "", name).split())
    return escape_lone_ampersands(name).replace("<", "&lt;").replace(">", "&gt;")


def _require_context(query: Mapping[str, str], user: User | None) -> None:
    if query.get("context") == "edit" and (user is None or not user.may("manage_categories")):
        raise not_allowed(user is not None, "rest_forbidden_context", "Sorry, you are not allowed to edit terms in this taxonomy.")  # fmt: skip


def _sort(rows: list[Row], query: Mapping[str, str], include: list[int] | None) -> None:
    order = query.get("orderby", "name")
    if order == "include" and include:
        rows.sort(key=lambda row: include.index(row["term_id"]))
        return
    keys = {"id": "term_id", "slug": "slug", "count": "count", "description": "description"}
    key = keys.get(order, "name")
    rows.sort(
        key=lambda row: row[key].casefold() if isinstance(row[key], str) else row[key],
        reverse=query.get("order") == "desc",
    )
