"""The stand-in WordPress: its REST API under /wp-json and ?rest_route=, as a real 6.8 was measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from runbook_lib.sandbox import wire_faults
from runbook_lib.sandbox.faults import Fault, Struck
from runbook_lib.sandbox.journal import Entry
from runbook_lib.sandbox.messages import JSON_TYPE as PLAIN_JSON_TYPE
from runbook_lib.sandbox.messages import Delivery, Request, Response
from runbook_lib.sandbox.pages import Pages
from runbook_lib.sandbox.storage import Row, Storage
from runbook_lib.sandbox.wordpress_answers import describe_index, describe_post, pick_fields
from runbook_lib.sandbox.wordpress_posts import Posts
from runbook_lib.sandbox.wordpress_refusals import JSON_TYPE, Refused, died, is_true
from runbook_lib.sandbox.wordpress_terms import TAXONOMIES, Taxonomy, Terms
from runbook_lib.sandbox.wordpress_users import (
    User,
    Users,
    describe_password,
    describe_user,
    require_login,
    require_user_list,
)

READING = ("GET", "HEAD", "OPTIONS")
MAINTENANCE = "Briefly unavailable for scheduled maintenance. Check back in a minute."
NO_DATABASE = "<h1>Error establishing a database connection</h1>"
CRITICAL = '<p>There has been a critical error on this website.</p><p><a href="https://wordpress.org/documentation/article/faq-troubleshooting/">Learn more about troubleshooting WordPress.</a></p>'
NO_ROUTE = Refused(404, "rest_no_route", "No route was found matching the URL and request method.")


class WordPress:
    """Answers everything that is not OpenAI's. `site` is its address, set once it is known."""

    def __init__(self, storage: Storage) -> None:
        self.site = ""
        self._storage = storage
        self.users = Users(storage)
        self.terms = Terms(storage)
        self.posts = Posts(storage, self.terms)
        self._pages = Pages(self.posts, self.terms)
        self._late: set[asyncio.Task[Response]] = set()

    def resume_late_writes(self) -> None:
        """Takes up the work that a sandbox before this one still owed."""
        for row in self._storage.rows("list_late_writes"):
            self._work_later(row["late_write_id"], row, Entry(0))

    async def answer(self, request: Request, struck: Struck, entry: Entry) -> Response:
        fault = struck.fault
        if fault is not None:
            said = wire_faults.answer(fault) or self._answer_of(fault, request)
            if said is not None:
                return said
            if fault.kind == "slow":
                await asyncio.sleep(fault.option("delay_seconds"))
            if fault.kind == "commit_delay" and request.method not in READING:
                return await self._commit_late(fault, request, struck, entry)
        response = self._worked(request, struck, entry)
        if fault is not None and fault.kind == "answer_lost":
            return _lost(fault, fault.option("how"), response)
        return wire_faults.on_its_way(fault, response)

    # faults of the site

    def _answer_of(self, fault: Fault, request: Request) -> Response | None:
        as_json = request.wants_json()
        if fault.kind == "redirect":
            base = fault.option("location") or self.site.replace("http://", "https://")
            return Response.of_html(
                fault.option("status"), "", {"Location": f"{base.rstrip('/')}{request.target}"}
            )
        if fault.kind == "maintenance":
            return died(503, MAINTENANCE, as_json=as_json, retry_after=fault.option("retry_after"))
        if fault.kind == "database_error":
            return died(500, NO_DATABASE, as_json=as_json)
        if fault.kind == "fatal_error":
            return died(500, CRITICAL, as_json=as_json, code="internal_server_error")
        return None

    async def _commit_late(
        self, fault: Fault, request: Request, struck: Struck, entry: Entry
    ) -> Response:
        """The work is kept on disk and done later, whatever becomes of the client and of this process."""
        try:
            user = self.users.logged_in(request, struck)
        except Refused as refusal:
            return refusal.response()
        entry.user = user.login if user else None
        late: Row = {
            "due_at": time.time() + fault.option("delay_seconds"),
            "login": user.login if user else None,
            "method": request.method,
            "target": request.target,
            "content_type": request.headers.get("content-type", ""),
            "body": request.body,
        }
        task = self._work_later(self._storage.execute("add_late_write", **late), late, entry)
        if fault.option("answer") == "late":
            return await asyncio.shield(task)
        return _lost(fault, fault.option("answer"), Response(500))

    def _work_later(self, late_write_id: int, late: Row, entry: Entry) -> asyncio.Task[Response]:
        async def work() -> Response:
            await asyncio.sleep(max(0.0, late["due_at"] - time.time()))
            headers = {"content-type": late["content_type"]}
            request = Request(late["method"], late["target"], headers, late["body"])
            user = self.users.find(late["login"]) if late["login"] else None
            with self._storage.transaction():
                self._storage.execute("remove_late_write", late_write_id=late_write_id)
                return self._routed(request, user, Struck(), entry)

        task = asyncio.get_running_loop().create_task(work())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task

    # the work

    def _worked(self, request: Request, struck: Struck, entry: Entry) -> Response:
        if _rest_route(request) is None:
            return self._pages.answer(request, self.site)
        if struck.condition("no_rest_api"):
            return self._pages.not_found()
        if struck.condition("plain_permalinks") and request.path.startswith("/wp-json"):
            return self._pages.plain_permalinks(request, self.site)
        try:
            user = self.users.logged_in(request, struck)
            entry.user = user.login if user else None
            _check_restrictions(user, struck)
        except Refused as refusal:
            return self._finished(refusal.response(), request)
        return self._routed(request, user, struck, entry)

    def _routed(
        self, request: Request, user: User | None, struck: Struck, entry: Entry
    ) -> Response:
        self._storage.execute("publish_due_posts", now=int(time.time()))
        try:
            response = self._route(request, user, struck, entry)
        except Refused as refusal:
            response = refusal.response()
        return self._finished(response, request)

    def _finished(self, response: Response, request: Request) -> Response:
        headers = {
            **response.headers,
            "X-Powered-By": "PHP/8.2",
            "X-Robots-Tag": "noindex",
            "Link": f'<{self.site}/wp-json/>; rel="https://api.w.org/"',
            "X-Content-Type-Options": "nosniff",
            "Access-Control-Expose-Headers": "X-WP-Total, X-WP-TotalPages, Link",
        }
        if "authorization" in request.headers:
            headers["Cache-Control"] = "no-cache, must-revalidate, max-age=0, no-store, private"
        return Response(response.status, response.body, headers)

    def _route(self, request: Request, user: User | None, struck: Struck, entry: Entry) -> Response:
        method = request.headers.get("x-http-method-override", request.method).upper()
        method = {"HEAD": "GET", "PUT": "POST", "PATCH": "POST"}.get(method, method)
        route = (_rest_route(request) or "").strip("/").split("/")
        if route == [""] and request.method in ("GET", "HEAD"):
            available = not struck.condition("no_application_passwords")
            return self._ok(request, describe_index(self.site, available))
        if route[:2] != ["wp", "v2"] or len(route) < 3:
            raise NO_ROUTE
        fields = {**request.query, **_read_body(request)} if method != "GET" else {}
        kind, rest = route[2], route[3:]
        if kind == "users":
            return self._route_users(request, method, rest, fields, user)
        if len(rest) > 1 or (rest and not rest[0].isdigit()):
            raise NO_ROUTE
        number = int(rest[0]) if rest else None
        if kind == "posts":
            return self._route_posts(request, method, number, fields, user, struck, entry)
        if kind in TAXONOMIES:
            return self._route_terms(
                request, method, TAXONOMIES[kind], number, fields, user, struck
            )
        raise NO_ROUTE

    def _route_posts(
        self,
        request: Request,
        method: str,
        post_id: int | None,
        fields: dict[str, Any],
        user: User | None,
        struck: Struck,
        entry: Entry,
    ) -> Response:
        entry.post_id = post_id
        entry.slug = str(fields.get("slug") or request.query.get("slug") or "") or None
        entry.topic = _title(fields)
        context = request.query.get("context", "view")
        if method == "GET" and post_id is None:
            rows, total, pages = self.posts.page(request.query, user)
            shown = [self._show_post(row, context, struck) for row in rows]
            return self._ok(request, shown, headers=_totals(total, pages))
        if method == "GET" and post_id is not None:
            return self._ok(
                request, self._show_post(self.posts.find(post_id, user, context), context, struck)
            )
        if method == "POST" and post_id is None:
            row = self.posts.create(fields, user, struck)
            entry.post_id, entry.slug = row["post_id"], row["slug"] or entry.slug
            location = f"{self.site}/wp-json/wp/v2/posts/{row['post_id']}"
            return self._ok(
                request, self._show_post(row, "edit", struck), 201, {"Location": location}
            )
        if method == "POST" and post_id is not None:
            row = self.posts.change(post_id, fields, user, struck)
            entry.slug = row["slug"] or entry.slug
            return self._ok(request, self._show_post(row, "edit", struck))
        if method == "DELETE" and post_id is not None:
            before = self._storage.row("find_post", post_id=post_id)
            shown_before = self._show_post(before, "edit", struck) if before else None
            row, gone = self.posts.delete(post_id, is_true(fields.get("force")), user)
            if gone:
                return self._ok(request, {"deleted": True, "previous": shown_before})
            return self._ok(request, self._show_post(row, "edit", struck))
        raise NO_ROUTE

    def _show_post(self, row: Row, context: str, struck: Struck) -> dict[str, Any]:
        terms = self._storage.rows("terms_of_post", post_id=row["post_id"])
        categories = (
            self.terms.known_ids(TAXONOMIES["categories"], struck) if struck.conditions else None
        )
        return describe_post(row, terms, self.site, context, categories)

    def _route_terms(
        self,
        request: Request,
        method: str,
        taxonomy: Taxonomy,
        term_id: int | None,
        fields: dict[str, Any],
        user: User | None,
        struck: Struck,
    ) -> Response:
        def shown(row: Row) -> dict[str, Any]:
            return self.terms.describe(taxonomy, row, self.site)

        if method == "GET" and term_id is None:
            rows, total, pages = self.terms.page(taxonomy, request.query, user, struck)
            return self._ok(request, [shown(row) for row in rows], headers=_totals(total, pages))
        if method == "GET" and term_id is not None:
            return self._ok(request, shown(self.terms.find(taxonomy, term_id, struck)))
        if method == "POST" and term_id is None:
            row = self.terms.create(taxonomy, fields, user, struck)
            location = f"{self.site}/wp-json/wp/v2/{taxonomy.base}/{row['term_id']}"
            return self._ok(request, shown(row), 201, {"Location": location})
        if method == "POST" and term_id is not None:
            return self._ok(
                request, shown(self.terms.change(taxonomy, term_id, fields, user, struck))
            )
        if method == "DELETE" and term_id is not None:
            before = shown(self.terms.find(taxonomy, term_id, struck))
            self.terms.delete(taxonomy, term_id, is_true(fields.get("force")), user, struck)
            return self._ok(request, {"deleted": True, "previous": before})
        raise NO_ROUTE

    def _route_users(
        self,
        request: Request,
        method: str,
        rest: list[str],
        fields: dict[str, Any],
        user: User | None,
    ) -> Response:
        context = request.query.get("context", "view")
        if not rest and method == "GET":
            require_user_list(user)
            return self._ok(
                request, [describe_user(each, self.site, context) for each in self.users.everyone()]
            )
        if rest == ["me"] and method == "GET":
            return self._ok(request, describe_user(require_login(user), self.site, context))
        if len(rest) >= 2 and rest[1] == "application-passwords":
            owner = require_login(user)
            if rest[0] not in ("me", str(owner.user_id)):
                raise Refused(403, "rest_cannot_list_application_passwords", "Sorry, you are not allowed to list application passwords for this user.")  # fmt: skip
            return self._route_passwords(request, method, rest[2:], fields, owner)
        raise NO_ROUTE

    def _route_passwords(
        self, request: Request, method: str, rest: list[str], fields: dict[str, Any], owner: User
    ) -> Response:
        rows = {row["uuid"]: row for row in self.users.passwords(owner)}
        if method == "GET" and rest == ["introspect"] and owner.password_uuid:
            return self._ok(request, describe_password(rows[owner.password_uuid]))
        if method == "GET" and not rest:
            return self._ok(request, [describe_password(row) for row in rows.values()])
        if method == "POST" and not rest:
            name = str(fields.get("name") or "").strip()
            if not name:
                raise Refused(400, "rest_missing_callback_param", "Missing parameter(s): name", {"status": 400, "params": ["name"]})  # fmt: skip
            password, row = self.users.make_password(owner, name)
            return self._ok(request, {**describe_password(row), "password": password}, 201)
        if rest and rest[0] in rows and method == "GET":
            return self._ok(request, describe_password(rows[rest[0]]))
        if rest and rest[0] in rows and method == "DELETE":
            self.users.revoke(owner, rest[0])
            return self._ok(
                request, {"deleted": True, "previous": describe_password(rows[rest[0]])}
            )
        if rest and method in ("GET", "DELETE"):
            raise Refused(
                404, "rest_application_password_not_found", "Application password not found."
            )
        raise NO_ROUTE

    def _ok(
        self,
        request: Request,
        value: Any,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        wanted = request.query.get("_fields")
        shown = pick_fields(value, wanted.split(",")) if wanted else value
        return Response.of_json(status, shown, {"Content-Type": JSON_TYPE, **(headers or {})})


def _rest_route(request: Request) -> str | None:
    """The route of the REST API that is asked for, or None for a page."""
    if request.path == "/wp-json" or request.path.startswith("/wp-json/"):
        return request.path.removeprefix("/wp-json")
    if request.path in ("/", "/index.php"):
        return request.query.get("rest_route")
    return None


def _check_restrictions(user: User | None, struck: Struck) -> None:
    if struck.condition("rest_requires_login") and user is None:
        raise Refused(401, "rest_not_logged_in", "You are not currently logged in.")
    if struck.condition("rest_forbidden"):
        raise Refused(403, "rest_forbidden", "REST API restricted.")


def _read_body(request: Request) -> dict[str, Any]:
    """The fields of a body, as JSON or as a form. Raises `Refused` for broken JSON."""
    if request.content_type != PLAIN_JSON_TYPE:
        return dict(
            parse_qsl(request.body.decode("utf-8", errors="replace"), keep_blank_values=True)
        )
    if not request.body:
        return {}
    try:
        found = request.json()
    except ValueError:
        details = {"status": 400, "json_error_code": 4, "json_error_message": "Syntax error"}
        raise Refused(400, "rest_invalid_json", "Invalid JSON body passed.", details) from None
    return found if isinstance(found, dict) else {}


def _title(fields: Mapping[str, Any]) -> str | None:
    title = fields.get("title")
    title = title.get("raw") if isinstance(title, dict) else title
    return title[:300] if isinstance(title, str) else None


def _totals(total: int, pages: int) -> dict[str, str]:
    return {"X-WP-Total": str(total), "X-WP-TotalPages": str(pages)}


def _lost(fault: Fault, how: str, response: Response) -> Response:
    """What comes in the place of an answer whose work was, or will be, done."""
    if how == "cut":
        return response.delivered(Delivery("cut"))
    if how == "status":
        return wire_faults.plain_status(fault.option("status"), "html")
    return wire_faults.unanswered(how, fault.option("silence_seconds"))
