"""What WordPress's REST API answers to the requests that a publisher makes, as a list that runs anywhere.

`observe` sends the requests of `CASES` to a site and returns the answers with everything that differs
from site to site named instead: ids, dates, addresses. `wordpress_contract.json` holds what a real
WordPress 6.8.12 answered; the sandbox has to answer the same. To record again::

    python tests/wordpress_contract.py http://127.0.0.1:8080 users.json > tests/wordpress_contract.json

where users.json maps `author`, `editor`, `contributor`, `subscriber` to [login, application password].
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

POSTS, CATEGORIES, TAGS, USERS = (
    f"/wp/v2/{each}" for each in ("posts", "categories", "tags", "users")
)
ME = f"{USERS}/me"
HEADERS = ("Location", "X-WP-Total", "X-WP-TotalPages", "Content-Type", "Retry-After")
# Links and style hooks of themes, which no publisher reads.
NOT_COMPARED = ("_links", "avatar_urls", "class_list", "meta", "guid", "capabilities", "extra_capabilities", "routes", "namespaces", "name_of_site")  # fmt: skip
# Which numbers are ids, and of what; None: of what the request's own route is about.
KIND_OF_KEY = {"id": None, "author": "user", "categories": "term", "tags": "term", "term_id": "term", "additional_data": "term", "parent": "term"}  # fmt: skip
LOGINS = ("author", "editor", "contributor", "subscriber")


@dataclass(frozen=True)
class Case:
    """One request. `{name}` in it stands for an id that an earlier case captured under that name."""

    name: str
    user: str | None
    method: str
    route: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    capture: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False  # through /?rest_route= instead of /wp-json


def _get(name: str, user: str | None, route: str, /, **query: Any) -> Case:
    return Case(name, user, "GET", route, query=query)


def _post(
    name: str, user: str | None, route: str, /, capture: str | None = None, **body: Any
) -> Case:
    return Case(name, user, "POST", route, body=body, capture=capture)


def _delete(name: str, user: str | None, route: str, /, **query: Any) -> Case:
    return Case(name, user, "DELETE", route, query=query)


HOSTILE = (
    '<p onclick="x()">One</p><script>alert(1)</script><style>p{}</style><iframe src="https://a.test/"></iframe>'
    '<a href="javascript:alert(1)" target="_blank">two</a> <img src="https://a.test/i.png" onerror="x()" alt="i">'
    " AT&T &amp; 1 < 2 &copy; <!-- wp:paragraph --><p style=\"color:red;position:fixed\">Red</p><!-- /wp:paragraph -->"
    "<table><tr><td>1</td></tr></table><svg><circle/></svg><form><input></form>"
)  # fmt: skip
MARKUP = "<h2>Head</h2>\n<p>One 🚀 é</p>\n\n<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n\nLoose text\nsecond line\n\n<blockquote><p>Q</p></blockquote>\n<pre><code>x &lt; 1\n\ny</code></pre>"

CASES: tuple[Case, ...] = (
    # who is asking
    _get("the index names application passwords", None, "/", _fields="authentication,timezone_string"),
    _get("anybody may list posts", None, POSTS, slug="nothing-{run}"),
    _get("a public read proves nothing about a password", "wrong password", POSTS, slug="nothing-{run}"),
    _get("a wrong password is nobody", "wrong password", ME, context="edit"),
    _get("an unknown user is nobody", "unknown user", ME, context="edit"),
    _get("a bearer token is nobody", "bearer", ME, context="edit"),
    _get("without a login there is no me", None, ME, context="edit"),
    _post("a wrong password may not post", "wrong password", POSTS, title="T {run}", status="draft"),
    _post("nobody may post", None, POSTS, title="T {run}", status="publish"),
    _get("an application password with its spaces", "author with spaces", ME, _fields="name,slug"),
    _get("the e-mail address logs in as well", "author by e-mail", ME, _fields="name,slug"),
    _get("me in the edit context has roles", "author", ME, context="edit", _fields="roles,username,email,locale,slug,name,link,nickname"),
    _get("me in the view context has no roles", "author", ME, _fields="roles,name,link,url,description,slug"),
    _get("an editor's role", "editor", ME, context="edit", _fields="roles"),
    _get("introspection tells the password's name", "author", f"{ME}/application-passwords/introspect", _fields="app_id,last_ip"),
    _get("introspection needs a login", None, f"{ME}/application-passwords/introspect"),
    _get("an author may not list users in the edit context", "author", USERS, context="edit"),
    # making posts
    _post("a draft of an author", "author", POSTS, capture="draft", title="A & B <b>bold</b> {run}", content="<p>Hi</p>", excerpt="Short & sweet", status="draft", slug="a-draft-{run}", categories=["{news}"]),
    _post("a published post", "author", POSTS, capture="published", title="Published {run}", content=MARKUP, excerpt="", status="publish", slug="published-{run}", categories=["{news}"], tags=[]),
    _post("content of an author is filtered", "author", POSTS, capture="hostile", title="Hostile <script>x</script> {run}", content=HOSTILE, excerpt="E <script>y</script>", status="draft", slug="hostile-{run}"),
    _post("content of an editor is not filtered", "editor", POSTS, capture="editors", title="Kept <script>x</script> {run}", content=HOSTILE, excerpt="E", status="draft", slug="kept-{run}"),
    _post("unknown categories are dropped in silence", "author", POSTS, capture="dropped", title="Dropped {run}", status="draft", categories=[999999, "{news}"], tags=[999999], featured_media=999999),
    _post("only unknown categories leave none", "author", POSTS, capture="none", title="None {run}", status="draft", categories=[999999]),
    _post("no category at all", "author", POSTS, capture="uncategorised", title="Plain {run}", status="draft"),
    _post("no category at all, published", "author", POSTS, capture="uncategorised2", title="Plain too {run}", status="publish"),
    _post("a category by name", "author", POSTS, title="Named {run}", categories=["News"]),
    _post("a category as a text of ids", "author", POSTS, capture="commas", title="Commas {run}", status="draft", categories="{news},999999"),
    _post("nothing to say", "author", POSTS, status="draft"),
    _post("only spaces", "author", POSTS, title="  ", content="", status="draft"),
    _post("an excerpt alone is enough", "author", POSTS, capture="excerpted", excerpt="Only {run}", status="draft"),
    _post("an unknown status", "author", POSTS, title="S {run}", status="online"),
    _post("two wrong fields", "author", POSTS, title="S {run}", status="online", categories=["x", "y"], date="soon"),
    Case("broken JSON", "author", "POST", POSTS, body=b'{"title": ', headers={"Content-Type": "application/json"}),
    _post("a bad date", "author", POSTS, title="D {run}", date="next week"),
    _post("unknown fields are ignored", "author", POSTS, capture="ignored", title="I {run}", status="draft", idempotency_key="k", meta={"unregistered": "x"}),
    _post("published in the future", "author", POSTS, capture="future", title="F {run}", slug="future-{run}", status="publish", date_gmt="2050-01-01T00:00:00"),
    _post("future in the past", "author", POSTS, capture="past", title="P {run}", slug="past-{run}", status="future", date_gmt="2020-01-01T10:00:00"),
    _post("a local date", "author", POSTS, capture="local", title="L {run}", slug="local-{run}", status="publish", date="2020-02-03T04:05:06"),
    _post("a title as an object", "author", POSTS, capture="object", title={"raw": "Raw title {run}"}, content={"raw": "Raw"}, status="draft"),
    Case("fields as a form", "author", "POST", POSTS, body=b"title=Form+{run}&status=draft", headers={"Content-Type": "application/x-www-form-urlencoded"}, capture="form"),
    _post("somebody else as author", "author", POSTS, title="Other {run}", author=1),
    _post("pending", "author", POSTS, capture="pending", title="Pending {run}", status="pending"),
    _post("private", "author", POSTS, capture="private", title="Private {run}", slug="private-{run}", status="private"),
    _post("sticky is refused to an author", "author", POSTS, title="Sticky {run}", sticky=True, status="draft"),
    # slugs
    _post("the same slug again, among drafts", "author", POSTS, capture="second", title="Again {run}", slug="a-draft-{run}", status="draft"),
    _post("and again", "author", POSTS, capture="third", title="Again {run}", slug="a-draft-{run}", status="publish"),
    _post("a published slug again", "author", POSTS, capture="twice", title="Again {run}", slug="published-{run}", status="publish"),
    _post("a slug is made of the title when published", "author", POSTS, capture="titled", title="Ünïcode & Tïtle — “Quoted” {run}!", status="publish"),
    _post("a draft without a slug has none", "author", POSTS, capture="slugless", title="Without a slug {run}", status="draft"),
    _post("and gets one when published", "author", f"{POSTS}/{{slugless}}", status="publish"),
    _post("a slug is cleaned", "author", POSTS, capture="cleaned", title="C {run}", slug="Ä Slug / With_Things & {run}", status="draft"),
    _post("a slug in another script", "author", POSTS, capture="script", title="C {run}", slug="日本 {run}", status="draft"),
    _post("a slug is cut", "author", POSTS, capture="cut", title="C {run}", slug="{run}-" + "long-" * 60, status="draft"),
    # finding posts
    _get("a look-up sees drafts of any status", "author", POSTS, slug="a-draft-{run}", status="any", context="edit", _fields="id,slug,status,title.raw"),
    _get("several slugs", "author", POSTS, slug="a-draft-{run},a-draft-{run}-2,a-draft-{run}-3", status="any", orderby="id", order="asc", _fields="id,slug,status"),
    _get("a look-up without status sees published only", "author", POSTS, slug="a-draft-{run}"),
    _get("private posts in any", "author", POSTS, slug="private-{run},future-{run}", status="any", orderby="id", order="asc", _fields="slug,status"),
    _get("statuses as a list", "author", POSTS, slug="private-{run},future-{run},a-draft-{run}", status="draft,future", orderby="id", order="asc", _fields="slug,status"),
    _get("any without a login", None, POSTS, slug="a-draft-{run}", status="any"),
    _get("another's draft is counted but not shown", "author", POSTS, slug="kept-{run}", status="any"),
    _get("an editor sees others' drafts", "editor", POSTS, slug="a-draft-{run}", status="any", _fields="slug"),
    _get("the edit context needs a login", None, POSTS, slug="published-{run}", context="edit"),
    _get("a published post in the view context", None, POSTS, slug="published-{run}", _fields="slug,content,excerpt,title,status,type,format,sticky,categories,tags,comment_status,link"),
    _get("one post", "author", f"{POSTS}/{{published}}", context="edit"),
    _get("one post for anybody", None, f"{POSTS}/{{published}}", _fields="id,title,content,status"),
    _get("a draft is hidden from anybody", None, f"{POSTS}/{{draft}}"),
    _get("another's draft", "author", f"{POSTS}/{{editors}}"),
    _get("another's draft in the edit context", "author", f"{POSTS}/{{editors}}", context="edit"),
    _get("a missing post", "author", f"{POSTS}/99999999"),
    _get("more than a hundred a page", "author", POSTS, per_page=101),
    _get("beyond the last page", "author", POSTS, slug="published-{run}", page=9),
    _get("unknown parameters are ignored", "author", POSTS, slug="published-{run}", pipeline_key="x", _fields="slug"),
    _get("an unknown order", "author", POSTS, orderby="colour"),
    _get("search", "author", POSTS, search="Published {run}", status="any", _fields="slug"),
    _get("posts of a category", "author", POSTS, categories="{news}", slug="published-{run}", _fields="slug,categories"),
    _get("posts by include", "author", POSTS, include="{published},{draft}", status="any", orderby="include", _fields="id,status"),
    Case("the plain address", "author", "GET", POSTS, query={"slug": "published-{run}", "_fields": "slug"}, plain=True),
    # changing posts
    _post("publishing a draft", "author", f"{POSTS}/{{draft}}", status="publish"),
    _post("publishing again", "author", f"{POSTS}/{{draft}}", status="publish"),
    _post("back to draft", "author", f"{POSTS}/{{draft}}", status="draft"),
    _post("an empty update", "author", f"{POSTS}/{{draft}}"),
    Case("PUT changes as well", "author", "PUT", f"{POSTS}/{{draft}}", body={"title": "Put {run}"}),
    _post("emptying a post", "author", f"{POSTS}/{{excerpted}}", excerpt="", title="", content=""),
    _post("an update with an unknown category", "author", f"{POSTS}/{{draft}}", categories=[999999]),
    _post("another's post", "author", f"{POSTS}/{{editors}}", title="Mine"),
    _post("a missing post cannot be changed", "author", f"{POSTS}/99999999", status="publish"),
    _post("taking a taken slug", "author", f"{POSTS}/{{draft}}", slug="published-{run}"),
    # removing posts
    _delete("to the trash", "author", f"{POSTS}/{{twice}}"),
    _delete("to the trash again", "author", f"{POSTS}/{{twice}}"),
    _get("the trash is not any", "author", POSTS, slug="published-{run}-2__trashed", status="any"),
    _get("the trash by name", "author", POSTS, slug="published-{run}-2__trashed", status="trash", _fields="slug,status"),
    _get("a trashed post by its id", "author", f"{POSTS}/{{twice}}", _fields="slug,status"),
    _post("a slug from the trash is free", "author", POSTS, capture="reused", title="Reused {run}", slug="published-{run}-2", status="draft"),
    _post("out of the trash", "author", f"{POSTS}/{{twice}}", status="draft"),
    _delete("for good", "author", f"{POSTS}/{{third}}", force="true"),
    _delete("for good again", "author", f"{POSTS}/{{third}}", force="true"),
    _delete("another's post stays", "author", f"{POSTS}/{{editors}}"),
    _delete("nobody removes", None, f"{POSTS}/{{published}}"),
    # roles
    _post("a contributor may not publish", "contributor", POSTS, title="C {run}", status="publish"),
    _post("a contributor may draft", "contributor", POSTS, capture="contributors", title="C {run}", slug="contributor-{run}", status="draft"),
    _post("a contributor may not publish his draft", "contributor", f"{POSTS}/{{contributors}}", status="publish"),
    _post("a subscriber may not post", "subscriber", POSTS, title="S {run}", status="draft"),
    _get("a subscriber may read", "subscriber", POSTS, slug="published-{run}", _fields="slug"),
    _get("a subscriber and any", "subscriber", POSTS, slug="published-{run}", status="any"),
    _post("a subscriber's tags", "subscriber", TAGS, name="S {run}"),
    _post("a contributor's tags", "contributor", TAGS, capture="ctag", name="C {run}"),
    # terms
    _get("a category by slug", None, CATEGORIES, slug="news", _fields="name,slug,parent,taxonomy,link,description"),
    _get("a category by search", None, CATEGORIES, search="new", slug="news", _fields="name,slug"),
    _get("categories in the edit context", "author", CATEGORIES, context="edit"),
    _get("more than a hundred categories", None, CATEGORIES, per_page=101),
    _get("a missing category", "author", f"{CATEGORIES}/999999"),
    _get("beyond the last page of tags", None, TAGS, page=9, slug="none-{run}"),
    _post("an author may not make categories", "author", CATEGORIES, name="Cat {run}"),
    _post("nobody makes categories", None, CATEGORIES, name="Cat {run}"),
    _post("an editor may make categories", "editor", CATEGORIES, capture="cat", name="Cat & Dog {run}", description="Of <b>two</b>"),
    _post("an existing category", "editor", CATEGORIES, name="cat & dog {run}"),
    _post("a category below another", "editor", CATEGORIES, capture="subcat", name="Sub {run}", parent="{cat}"),
    _post("a category below nothing", "editor", CATEGORIES, name="Sub2 {run}", parent=999999),
    _post("an author may make tags", "author", TAGS, capture="tag", name="Täg & co {run}"),
    _post("an existing tag", "author", TAGS, name="Täg & co {run}"),
    _post("an existing tag in another case", "author", TAGS, name="täg & CO {run}"),
    _post("an existing tag without accents", "author", TAGS, name="Tag & co {run}", capture="tag2"),
    _post("a tag with an existing slug", "author", TAGS, capture="other", name="Other {run}", slug="tag-co-{run}"),
    _post("a tag without a name", "author", TAGS),
    _post("a tag with an empty name", "author", TAGS, name=""),
    _post("a tag of spaces", "author", TAGS, name="  "),
    _post("a tag with markup", "author", TAGS, capture="marked", name="<b>Bold</b>  tag {run}"),
    _post("a tag that is too long", "author", TAGS, name="x" * 201),
    _get("a tag by slug", None, TAGS, slug="tag-co-{run}", _fields="id,name,slug,count"),
    _post("a post with a tag", "author", POSTS, capture="tagged", title="Tagged {run}", slug="tagged-{run}", status="publish", tags=["{tag}", "{ctag}"], categories=["{cat}"]),
    _get("a tag counts published posts", None, f"{TAGS}/{{tag}}", _fields="count,name"),
    _get("terms of a post", None, TAGS, post="{tagged}", orderby="id", _fields="id"),
    _get("empty terms hidden", None, TAGS, hide_empty="true", slug="tag-co-{run}", _fields="id"),
    _delete("an author may not remove a category", "author", f"{CATEGORIES}/{{cat}}", force="true"),
    _delete("terms have no trash", "editor", f"{CATEGORIES}/{{cat}}"),
    _delete("an editor may remove a category", "editor", f"{CATEGORIES}/{{cat}}", force="true"),
    _get("a post whose category went", "author", f"{POSTS}/{{tagged}}", _fields="categories"),
    # routes
    _get("an unknown route", "author", "/wp/v2/nothing"),
    Case("an unknown method", "author", "PATCH", "/"),
    Case("HEAD", None, "HEAD", POSTS, query={"slug": "published-{run}"}),
    _get("an envelope of fields", "author", f"{POSTS}/{{published}}", _fields="id,title.rendered,content.protected"),
)  # fmt: skip


class Observer:
    """Sends cases to one site and names what differs from site to site."""

    def __init__(
        self, site: str, users: Mapping[str, tuple[str, str]], run: str | None = None
    ) -> None:
        self.site = site.rstrip("/")
        self.users = users
        # Letters only, so that no number is taken for an id.
        self.names: dict[str, Any] = {
            "run": run or "".join(secrets.choice("bcdfghjklm") for _ in range(8))
        }
        self._ids: dict[str, tuple[str, int]] = {}  # name → (kind, number)
        self._session = requests.Session()
        self._session.trust_env = False

    def observe(self, cases: tuple[Case, ...] = CASES) -> Iterator[dict[str, Any]]:
        """The answer to each case, in order."""
        self._look_up_ids()
        for case in cases:
            answer = self._send(case)
            if case.capture and answer.status_code == 201:
                self._ids[case.capture] = (_kind(case.route), answer.json()["id"])
            yield {"case": case.name, **self._describe(case, answer)}

    def _look_up_ids(self) -> None:
        address = f"{self.site}/wp-json{CATEGORIES}?slug=news,uncategorized"
        for each in self._session.get(address, timeout=30).json():
            self._ids[each["slug"]] = ("term", each["id"])
        for role in LOGINS:
            found = self._session.get(
                f"{self.site}/wp-json{ME}", headers=self._login(role), timeout=30
            )
            self._ids[f"{role} user"] = ("user", found.json()["id"])

    def _send(self, case: Case) -> requests.Response:
        route, query, body = (
            self._fill(each) for each in (case.route, dict(case.query), case.body)
        )
        if case.plain:
            address, query = f"{self.site}/", {"rest_route": route, **query}
        else:
            address = f"{self.site}/wp-json{route}"
        headers = {"Accept": "application/json", **self._login(case.user), **case.headers}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return self._session.request(
            case.method,
            address,
            params=query,
            data=body,
            headers=headers,
            timeout=30,
            allow_redirects=False,
        )

    def _login(self, user: str | None) -> dict[str, str]:
        if user is None:
            return {}
        if user == "bearer":
            return {"Authorization": "Bearer abc"}
        login, password = self.users.get(user.split()[0], ("nobody", "x"))
        password = password.replace(" ", "")
        if user == "wrong password":
            login, password = self.users["author"][0], "wrong wrong wrong"
        if user.endswith("with spaces"):
            password = " ".join(re.findall("....", password))
        if user.endswith("by e-mail"):
            login = f"{login}@example.test"
        return {
            "Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
        }

    def _fill(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return value.replace(b"{run}", self.names["run"].encode())
        if isinstance(value, str):
            for name, (_, number) in self._ids.items():
                if value == f"{{{name}}}":
                    return number
                value = value.replace(f"{{{name}}}", str(number))
            return value.replace("{run}", self.names["run"])
        if isinstance(value, dict):
            return {name: self._fill(each) for name, each in value.items()}
        return [self._fill(each) for each in value] if isinstance(value, list) else value

    def _describe(self, case: Case, answer: requests.Response) -> dict[str, Any]:
        kind = _kind(case.route)
        headers = {
            name: self._name(answer.headers[name], kind)
            for name in HEADERS
            if name in answer.headers
        }
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        return {
            "status": answer.status_code,
            "headers": headers,
            "body": self._name(body, kind, ""),
        }

    def _name(self, value: Any, kind: str, key: str = "") -> Any:
        """The value with names in place of this site's ids, dates, addresses and logins."""
        if isinstance(value, dict):
            return {
                name: self._name(each, kind, name)
                for name, each in value.items()
                if name not in NOT_COMPARED
            }
        if isinstance(value, list):
            return [self._name(each, kind, key) for each in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return (
                self._name_number(KIND_OF_KEY[key] or kind, value) if key in KIND_OF_KEY else value
            )
        if not isinstance(value, str):
            return value
        if kind == "user":
            value = self._name_login(value, key)
        value = value.replace(self.site, "{site}").replace(self.names["run"], "{run}")
        value = re.sub(
            r"(/posts/|/tags/|/categories/|[?]p=|^(?=\d+-2$))(\d+)(?=$|/|-2$)",
            lambda found: (
                f"{found[1]}{self._name_number('term' if found[1][1:2] in ('t', 'c') else 'post', int(found[2]))}"
            ),
            value,
        )
        return "{now}" if _is_about_now(value) else value

    def _name_login(self, value: str, key: str) -> str:
        for role in LOGINS:
            login = self.users[role][0]
            if key in ("name", "slug", "username", "nickname") and value == login:
                return f"{{{role}}}"
            value = value.replace(f"/author/{login}/", f"/author/{{{role}}}/").replace(
                f"{login}@", f"{{{role}}}@"
            )
        return value

    def _name_number(self, kind: str | None, number: int) -> str | int:
        for name, found in self._ids.items():
            if found == (kind, number):
                return f"{{{name}}}"
        return number


def _kind(route: str) -> str:
    return "user" if route.startswith(USERS) else "post" if route.startswith(POSTS) else "term"


def _is_about_now(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text):
        return False
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return abs((moment - datetime.now(UTC)).total_seconds()) < 86_400


def main() -> None:
    site, users = sys.argv[1], json.loads(Path(sys.argv[2]).read_text("utf-8"))
    json.dump(list(Observer(site, users).observe()), sys.stdout, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    main()
