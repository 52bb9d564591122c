"""How the stand-in WordPress shows a post and itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runbook_lib.sandbox.storage import Row
from runbook_lib.sandbox.wordpress_posts import generated_slug, moment
from runbook_lib.sandbox.wordpress_text import curl, render_content, render_excerpt

SITE_NAME = "Runbook sandbox"
ROUTES = ("/", "/wp/v2", "/wp/v2/posts", "/wp/v2/posts/(?P<id>[\\d]+)", "/wp/v2/categories", "/wp/v2/tags", "/wp/v2/users", "/wp/v2/users/me")  # fmt: skip


def describe_index(site: str, application_passwords: bool) -> dict[str, Any]:
    """The index of the REST API. `authentication` is a list, not an object, when there is none."""
    ways: Any = []
    if application_passwords:
        address = f"{site}/wp-admin/authorize-application.php"
        ways = {"application-passwords": {"endpoints": {"authorization": address}}}
    return {
        "name": SITE_NAME,
        "description": "",
        "url": site,
        "home": site,
        "gmt_offset": "0",
        "timezone_string": "",
        "page_for_posts": 0,
        "page_on_front": 0,
        "show_on_front": "posts",
        "namespaces": ["oembed/1.0", "wp/v2", "wp-site-health/v1", "wp-block-editor/v1"],
        "authentication": ways,
        "routes": {route: {"namespace": "wp/v2" if "v2" in route else ""} for route in ROUTES},
    }


def describe_post(
    row: Row, terms: Sequence[Row], site: str, context: str, categories: set[int] | None = None
) -> dict[str, Any]:
    """A post as the REST API shows it. `categories` are those that still exist, None for all."""
    edit = context == "edit"
    post_id, public = row["post_id"], row["status"] in ("publish", "private")
    base = f"{site}/wp-json/wp/v2/posts"
    raw = {name: ({"raw": row[name]} if edit else {}) for name in ("title", "content", "excerpt")}
    guid = f"{site}/?p={post_id}"
    shown: dict[str, Any] = {
        "id": post_id,
        "date": moment(row["date_at"]),
        "date_gmt": moment(row["date_at"]),
        "guid": {"rendered": guid, **({"raw": guid} if edit else {})},
        "modified": moment(row["modified_at"]),
        "modified_gmt": moment(row["modified_at"]),
    }
    if edit:
        shown["password"] = ""
    shown |= {
        "slug": row["slug"],
        "status": row["status"],
        "type": "post",
        "link": f"{site}/{row['slug']}/" if public else guid,
        "title": {**raw["title"], "rendered": curl(row["title"])},
        "content": {
            **raw["content"],
            "rendered": render_content(row["content"]),
            "protected": False,
        },
        "excerpt": {
            **raw["excerpt"],
            "rendered": render_excerpt(row["excerpt"], row["content"]),
            "protected": False,
        },
        "author": row["author_id"],
        "featured_media": 0,
        "comment_status": "open",
        "ping_status": "open",
        "sticky": bool(row["sticky"]),
        "template": "",
        "format": "standard",
        "meta": {"footnotes": ""},
        "categories": _ids(terms, "category", categories),
        "tags": _ids(terms, "post_tag", None),
    }
    if edit:
        shown["content"]["block_version"] = int("<!-- wp:" in row["content"])
        shown["permalink_template"] = guid if row["status"] == "trash" else f"{site}/%postname%/"
        shown["generated_slug"] = generated_slug(row)
    shown["_links"] = {
        "self": [{"href": f"{base}/{post_id}"}],
        "collection": [{"href": base}],
        "author": [{"embeddable": True, "href": f"{site}/wp-json/wp/v2/users/{row['author_id']}"}],
    }
    return shown


def _ids(terms: Sequence[Row], taxonomy: str, known: set[int] | None) -> list[int]:
    return [
        term["term_id"]
        for term in terms
        if term["taxonomy"] == taxonomy and (known is None or term["term_id"] in known)
    ]


def pick_fields(value: Any, wanted: Sequence[str]) -> Any:
    """What `_fields` leaves of an answer; `title.rendered` names a part."""
    if isinstance(value, list):
        return [pick_fields(each, wanted) for each in value]
    if not isinstance(value, dict):
        return value
    picked: dict[str, Any] = {}
    for name in (each.strip() for each in wanted):
        source: Any = value
        target = picked
        *path, last = name.split(".")
        for part in path:
            source = source.get(part) if isinstance(source, dict) else None
            target = target.setdefault(part, {}) if isinstance(source, dict) else target
        if isinstance(source, dict) and last in source:
            target[last] = source[last]
    return picked
