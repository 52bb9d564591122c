"""The site that people see: a list of what was published, and one page for each post."""

from __future__ import annotations

import html
from urllib.parse import unquote

from runbook_lib.sandbox.faults import Struck
from runbook_lib.sandbox.messages import Request, Response
from runbook_lib.sandbox.storage import Row
from runbook_lib.sandbox.wordpress_posts import Posts, moment
from runbook_lib.sandbox.wordpress_terms import CATEGORIES, Terms
from runbook_lib.sandbox.wordpress_text import curl, html_to_text, render_content, render_excerpt

POSTS_SHOWN = 100
_STYLE = "body{font:1.05rem/1.6 Georgia,serif;max-width:42rem;margin:2rem auto;padding:0 1rem;color:#222}h1,h2{line-height:1.25}small{color:#666}a{color:#0a5}hr{border:0;border-top:1px solid #ddd}"
# Posts of an editor are not filtered, and this is somebody's browser.
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src * data:; base-uri 'none'; form-action 'none'"}  # fmt: skip


class Pages:
    """HTML pages of the published posts."""

    def __init__(self, posts: Posts, terms: Terms) -> None:
        self._posts = posts
        self._terms = terms

    def answer(self, request: Request, site: str) -> Response:
        if request.path == "/" and "p" not in request.query:
            return self._front(site)
        if "p" in request.query and request.query["p"].isdigit():
            query = {"include": request.query["p"]}
        else:
            query = {"slug": unquote(request.path.strip("/"))}
        rows, _, _ = self._posts.page(query, None)
        return self._post(rows[0], site) if rows else self.not_found()

    def not_found(self) -> Response:
        return _page(
            "Page not found", "<p>It looks like nothing was found at this location.</p>", 404
        )

    def plain_permalinks(self, request: Request, site: str) -> Response:
        """With plain permalinks nothing is below /wp-json: a read is redirected to the address with a
        slash, and that, as any write, shows the front page."""
        path, _, query = request.target.partition("?")
        if path.endswith("/") or request.method not in ("GET", "HEAD"):
            return self._front(site)
        location = f"{site}{path}/" + (f"?{query}" if query else "")
        return Response.of_html(301, "", {"Location": location, "X-Redirect-By": "WordPress"})

    def _front(self, site: str) -> Response:
        rows, total, _ = self._posts.page({"per_page": str(POSTS_SHOWN)}, None)
        names = {row["term_id"]: row["name"] for row in self._terms.all(CATEGORIES, Struck())}
        parts = [f"<p>{total} published posts. This site is the sandbox of the runbook workbench: nothing here is public.</p>"]  # fmt: skip
        for row in rows:
            excerpt = render_excerpt(row["excerpt"], row["content"])
            parts.append(
                f'<h2><a href="{site}/{row["slug"]}/">{_plain(row["title"])}</a></h2>'
                f"<small>{moment(row['date_at'])} UTC</small>{excerpt}"
            )
        categories = ", ".join(names.values())
        return _page(
            "Runbook sandbox", "".join(parts) + f"<hr><small>Categories: {categories}</small>"
        )

    def _post(self, row: Row, site: str) -> Response:
        body = f'<small>{moment(row["date_at"])} UTC · <a href="{site}/">all posts</a></small>{render_content(row["content"])}'
        return _page(_plain(row["title"]), body)


def _plain(title: str) -> str:
    return html.escape(" ".join(html.unescape(html_to_text(curl(title))).split()))


def _page(title: str, body: str, status: int = 200) -> Response:
    page = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>{body}</body></html>\n'
    return Response.of_html(status, page, _HEADERS)
