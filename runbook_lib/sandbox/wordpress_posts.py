"""Posts of the stand-in WordPress: what may be written, what becomes of slugs, dates and statuses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from runbook_lib.sandbox.faults import Struck
from runbook_lib.sandbox.storage import Row, Storage
from runbook_lib.sandbox.wordpress_refusals import (
    POST_STATUSES,
    Problems,
    Refused,
    is_true,
    not_allowed,
    page_of,
)
from runbook_lib.sandbox.wordpress_terms import CATEGORIES, DEFAULT_CATEGORY_ID, TAGS, Terms
from runbook_lib.sandbox.wordpress_text import (
    LONGEST_SLUG_CHARACTERS,
    cut_slug,
    filter_html,
    slug_of,
)
from runbook_lib.sandbox.wordpress_users import User

TRASHED = "__trashed"
_UNSLUGGED = (
    "draft",
    "pending",
)  # keep an empty slug, and are not made unique by a change of status
_FILTER_STATUSES = (*POST_STATUSES, "trash")
_PUBLIC = ("publish",)
_ORDERS = (
    "author",
    "date",
    "id",
    "include",
    "modified",
    "parent",
    "relevance",
    "slug",
    "include_slugs",
    "title",
)
_ORDER_COLUMNS = {"author": "author_id", "date": "date_at", "id": "post_id", "modified": "modified_at", "slug": "slug", "title": "title"}  # fmt: skip


class Posts:
    """Reads and writes posts as one user at a time."""

    def __init__(self, storage: Storage, terms: Terms) -> None:
        self._storage = storage
        self._terms = terms

    # reading

    def page(self, query: Mapping[str, str], user: User | None) -> tuple[list[Row], int, int]:
        """The visible posts of a page, how many match (hidden ones too), and on how many pages.

        Raises `Refused`.
        """
        problems = Problems()
        page, per_page = page_of(query, problems)
        problems.choice("orderby", query.get("orderby", "date"), _ORDERS)
        problems.choice("order", query.get("order", "desc"), ("asc", "desc"))
        statuses = _read_statuses(query.get("status", "publish"), user, problems)
        binds: dict[str, Any] = {
            name: json.dumps(problems.ids(parameter, query[parameter])) if query.get(parameter) else None
            for name, parameter in (("include", "include"), ("exclude", "exclude"), ("authors", "author"), ("categories", "categories"), ("tags", "tags"))
        }  # fmt: skip
        binds["after"] = problems.moment("after", query.get("after"))
        binds["before"] = problems.moment("before", query.get("before"))
        problems.raise_if_any()
        if query.get("context") == "edit" and (user is None or not user.may("edit_posts")):
            raise not_allowed(user is not None, "rest_forbidden_context", "Sorry, you are not allowed to edit posts in this post type.")  # fmt: skip
        rows = self._matching(query, statuses, binds)
        if query.get("orderby") == "include" and binds["include"]:
            order = json.loads(binds["include"])
            rows.sort(key=lambda row: order.index(row["post_id"]))
        elif "orderby" in query or "order" in query:
            column = _ORDER_COLUMNS.get(query.get("orderby", "date"), "date_at")
            rows.sort(
                key=lambda row: (row[column], row["post_id"]),
                reverse=query.get("order", "desc") == "desc",
            )
        pages = -(-len(rows) // per_page)
        if page > 1 and page > pages and rows:
            raise Refused(400, "rest_post_invalid_page_number", "The page number requested is larger than the number of pages available.")  # fmt: skip
        shown = rows[(page - 1) * per_page : page * per_page]
        visible = [row for row in shown if self.may_read(row, user, query.get("context", "view"))]
        return visible, len(rows), pages

    def _matching(
        self, query: Mapping[str, str], statuses: tuple[str, ...], binds: dict[str, Any]
    ) -> list[Row]:
        slugs = None
        if "slug" in query:
            slugs = json.dumps([slug_of(each) for each in query["slug"].split(",")])
        if slugs and not any(binds.values()) and "search" not in query:
            return self._storage.rows(
                "list_posts_by_slugs", slugs=slugs, statuses=json.dumps(statuses)
            )
        words = json.dumps(query["search"].lower().split()) if query.get("search") else None
        return self._storage.rows(
            "list_posts", slugs=slugs, statuses=json.dumps(statuses), words=words, **binds
        )

    def find(self, post_id: int, user: User | None, context: str = "view") -> Row:
        """One post that the user may see. Raises `Refused`."""
        row = self._existing(post_id)
        if context == "edit" and not may_edit(row, user):
            raise not_allowed(user is not None, "rest_forbidden_context", "Sorry, you are not allowed to edit this post.")  # fmt: skip
        if not self.may_read(row, user, context):
            raise not_allowed(
                user is not None, "rest_forbidden", "Sorry, you are not allowed to do that."
            )
        return row

    def may_read(self, row: Row, user: User | None, context: str) -> bool:
        if context == "edit" and not may_edit(row, user):
            return False
        return row["status"] in _PUBLIC or may_edit(row, user)

    def _existing(self, post_id: int) -> Row:
        row = self._storage.row("find_post", post_id=post_id)
        if row is None:
            raise Refused(404, "rest_post_invalid_id", "Invalid post ID.")
        return row

    # writing

    def create(self, body: Mapping[str, Any], user: User | None, struck: Struck) -> Row:
        """A new post. Raises `Refused`."""
        fields = _read_fields(body)
        if "author" in fields and (user is None or fields["author"] != user.user_id) and not (user and user.may("edit_others_posts")):  # fmt: skip
            raise not_allowed(user is not None, "rest_cannot_edit_others", "Sorry, you are not allowed to create posts as this user.")  # fmt: skip
        if fields.get("sticky") and not (user and user.may("edit_others_posts")):
            raise not_allowed(user is not None, "rest_cannot_assign_sticky", "Sorry, you are not allowed to make posts sticky.")  # fmt: skip
        if user is None or not user.may("edit_posts"):
            raise not_allowed(user is not None, "rest_cannot_create", "Sorry, you are not allowed to create posts as this user.")  # fmt: skip
        now = int(time.time())
        post: Row = {
            "post_id": 0,
            "author_id": fields.get("author", user.user_id),
            "status": "draft",
            "slug": "",
            "slug_before_trash": None,
            "title": "",
            "content": "",
            "excerpt": "",
            "sticky": 0,
            "dated": 0,
            "date_at": now,
            "modified_at": now,
        }
        self._apply(post, fields, user, struck)
        if fields.get("date_at") is not None:
            post["modified_at"] = post["date_at"]
        with self._storage.transaction():
            made = {
                name: value
                for name, value in post.items()
                if name not in ("post_id", "slug_before_trash")
            }
            post["post_id"] = self._storage.execute("add_post", **made)
            self._set_terms(post["post_id"], fields, struck, new=True)
        return self._existing(post["post_id"])

    def change(
        self, post_id: int, body: Mapping[str, Any], user: User | None, struck: Struck
    ) -> Row:
        """Changes a post. Raises `Refused`."""
        post = self._existing(post_id)
        fields = _read_fields(body)
        if not may_edit(post, user):
            raise not_allowed(
                user is not None,
                "rest_cannot_edit",
                "Sorry, you are not allowed to edit this post.",
            )
        assert user is not None
        self._apply(post, fields, user, struck)
        with self._storage.transaction():
            self._storage.execute("change_post", **post)
            self._set_terms(post_id, fields, struck, new=False)
        return self._existing(post_id)

    def delete(self, post_id: int, force: bool, user: User | None) -> tuple[Row, bool]:
        """Trashes a post, or removes it for good; the post, and whether it is gone. Raises `Refused`."""
        post = self._existing(post_id)
        if not may_edit(post, user):
            raise not_allowed(
                user is not None,
                "rest_cannot_delete",
                "Sorry, you are not allowed to delete this post.",
            )
        if force:
            self._storage.execute("remove_post", post_id=post_id)
            return post, True
        if post["status"] == "trash":
            raise Refused(410, "rest_already_trashed", "The post has already been deleted.")
        post["slug_before_trash"] = post["slug"]
        post["slug"] = cut_slug(post["slug"], LONGEST_SLUG_CHARACTERS - len(TRASHED)) + TRASHED
        post["status"], post["modified_at"] = "trash", int(time.time())
        self._storage.execute("change_post", **post)
        return self._existing(post_id), False

    def _apply(self, post: Row, fields: dict[str, Any], user: User, struck: Struck) -> None:
        """Changes the fields of a post in the order in which WordPress does."""
        for name in ("title", "content", "excerpt"):
            if name in fields:
                text = fields[name] if user.may("unfiltered_html") else filter_html(fields[name])
                post[name] = text.strip() if name != "content" else text
        if changed := struck.condition("answer_differs"):
            post |= {
                name: value for name, value in changed.option("fields").items() if name in post
            }
        if not any(post[name].strip() for name in ("title", "content", "excerpt")):
            raise Refused(400, "empty_content", "Content, title, and excerpt are empty.")
        if fields.get("status") in ("publish", "future", "private") and not user.may(
            "publish_posts"
        ):
            raise Refused(
                403,
                "rest_cannot_publish",
                "Sorry, you are not allowed to publish posts in this post type.",
            )
        now = int(time.time())
        if fields.get("date_at") is not None:
            post["date_at"], post["dated"] = fields["date_at"], 1
        elif not post["dated"] and post["status"] in _UNSLUGGED:
            post["date_at"] = now
        leaves_trash = post["status"] == "trash" and fields.get("status", "trash") != "trash"
        self._apply_status(post, fields, now)
        post["sticky"] = int(bool(fields.get("sticky", post["sticky"])))
        post["modified_at"] = now
        self._apply_slug(post, fields, leaves_trash)

    def _apply_status(self, post: Row, fields: dict[str, Any], now: int) -> None:
        status = fields.get("status", post["status"])
        if status == "publish" and post["date_at"] > now:
            status = "future"
        elif status == "future" and post["date_at"] <= now:
            status = "publish"
        post["status"] = status
        if status in ("publish", "private"):
            post["dated"] = 1

    def _apply_slug(self, post: Row, fields: dict[str, Any], leaves_trash: bool) -> None:
        if leaves_trash and "slug" not in fields:
            post["slug"] = post["slug_before_trash"] or post["slug"].removesuffix(TRASHED)
            post["slug_before_trash"] = None
        if "slug" in fields:
            post["slug"] = slug_of(fields["slug"])
        if not post["slug"] and post["status"] not in (*_UNSLUGGED, "trash"):
            post["slug"] = slug_of(post["title"]) or str(post["post_id"] or "post")
        if post["slug"] and ("slug" in fields or post["status"] not in (*_UNSLUGGED, "trash")):
            post["slug"] = self.free_slug(post["slug"], post["post_id"])

    def free_slug(self, slug: str, post_id: int) -> str:
        """A slug that no other post has: with `-2`, `-3` … where it is taken. All digits are never free."""
        tried, suffix = slug, 1
        while (tried == slug and slug.isdigit()) or self._storage.value(
            "count_slug_of_posts", slug=tried, post_id=post_id
        ):
            suffix += 1
            tried = f"{cut_slug(slug, LONGEST_SLUG_CHARACTERS - len(str(suffix)) - 1)}-{suffix}"
        return tried

    def _set_terms(
        self, post_id: int, fields: dict[str, Any], struck: Struck, *, new: bool
    ) -> None:
        for taxonomy in (CATEGORIES, TAGS):
            if taxonomy.base in fields:
                known = self._terms.known_ids(taxonomy, struck)
                self._storage.execute("remove_post_terms", post_id=post_id, taxonomy=taxonomy.name)
                for term_id in fields[taxonomy.base]:
                    if term_id in known:  # an unknown one is dropped without a word
                        self._storage.execute("add_post_term", post_id=post_id, term_id=term_id)
        has_category = any(
            row["taxonomy"] == "category"
            for row in self._storage.rows("terms_of_post", post_id=post_id)
        )
        if "categories" not in fields and not has_category:
            self._storage.execute("add_post_term", post_id=post_id, term_id=DEFAULT_CATEGORY_ID)


def may_edit(row: Row, user: User | None) -> bool:
    """Whether the user may change this post."""
    if user is None or not user.may("edit_posts"):
        return False
    if row["author_id"] != user.user_id:
        return user.may("edit_others_posts")
    published = row["status"] in ("publish", "future", "private") or bool(row["slug_before_trash"])
    return user.may("edit_published_posts") or not published


def _read_statuses(text: str, user: User | None, problems: Problems) -> tuple[str, ...]:
    asked = [each.strip() for each in text.split(",")]
    if asked == ["publish"]:
        return _PUBLIC
    if user is None or not user.may("edit_posts"):
        status = 401 if user is None else 403
        problems.add("status", "rest_forbidden_status", "Status is forbidden.", {"status": status})
        return ()
    for number, each in enumerate(asked):
        if each not in (*_FILTER_STATUSES, "any", "auto-draft", "inherit"):
            listed = "publish, future, draft, pending, private, trash, auto-draft, inherit, request-pending, request-confirmed, request-failed, request-completed, and any"
            problems.add("status", "rest_not_in_enum", f"status[{number}] is not one of {listed}.")
    return POST_STATUSES if "any" in asked else tuple(asked)


def _read_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that WordPress knows, checked. Raises `Refused`; unknown ones are ignored."""
    problems = Problems()
    fields: dict[str, Any] = {}
    for name in ("date", "date_gmt"):
        if name in body:
            fields["date_at"] = problems.moment(name, body[name])
    if "slug" in body:
        fields["slug"] = str(body["slug"])
    if "status" in body:
        problems.choice("status", body["status"], POST_STATUSES)
        fields["status"] = body["status"]
    for name in ("title", "content", "excerpt"):
        if name in body:
            value = body[name].get("raw", "") if isinstance(body[name], dict) else body[name]
            if not isinstance(value, (str, int, float)):
                problems.add(
                    name,
                    "rest_invalid_type",
                    f"{name} is not of type string,object.",
                    {"param": name},
                )
            fields[name] = str(value)
    if "author" in body:
        fields["author"] = problems.number("author", body["author"], 0, None)
    for name in ("categories", "tags"):
        if name in body:
            fields[name] = problems.ids(name, body[name])
    if "sticky" in body:
        fields["sticky"] = is_true(body["sticky"])
    problems.raise_if_any()
    return fields


def moment(at: int) -> str:
    """A time as WordPress writes it; the site's time zone is UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def generated_slug(row: Row) -> str:
    """The slug that the editor would propose."""
    slug = slug_of(row["title"]) or str(row["post_id"])
    return f"{slug}-2" if re.fullmatch(r"\d+", slug) else slug
