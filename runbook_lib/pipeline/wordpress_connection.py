"""Requests to one site's REST API: where it is, who asks, by when, and what a refusal means."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from runbook_lib import known_secrets
from runbook_lib.credentials.store import after_refusal
from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.failures import Failure, JobFailed
from runbook_lib.pipeline.transport import Answer, ExchangeFailed, Transport
from runbook_lib.pipeline.wordpress_answers import (
    code_of,
    login_refused,
    no_answer,
    read_object,
    refusal,
)


@dataclass(frozen=True)
class Site:
    """How the REST API is reached. `application_passwords` is None when the site does not say."""

    name: str
    pretty_addresses: bool
    application_passwords: bool | None


class WordPressConnection:
    """One site and one user; threads may share it.

    `password` is asked for each request, so that a rotated application password is used at once; on a
    refused login it is asked again. `deadline_seconds` bounds each single request.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: Callable[[], str],
        *,
        deadline_seconds: float,
        connections: int,
    ) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self._password = password
        self._deadline_seconds = deadline_seconds
        self._transport = Transport(connections=connections)
        self._site: Site | None = None

    def close(self) -> None:
        self._transport.close()

    def site(self, deadline: Deadline) -> Site:
        """Finds the REST API: under `/wp-json`, or under `/?rest_route=` with plain permalinks.

        Raises `JobFailed` when neither answers as WordPress does.
        """
        answers = []
        for pretty in (True, False):
            address = self._address(pretty, "/", {"_fields": "name,namespaces,authentication"})
            answer = self._exchange("GET", address, None, deadline)
            found = read_object(answer)
            if answer.status == 200 and found and "wp/v2" in (found.get("namespaces") or ()):
                ways = found.get("authentication")
                # An empty list, not an empty object, where application passwords are unavailable.
                known = None if ways is None else "application-passwords" in ways
                self._site = Site(html.unescape(str(found.get("name", ""))), pretty, known)
                return self._site
            if answer.status in (401, 429) or answer.status >= 500:
                raise JobFailed(self.refusal(answer, "GET the REST index"))
            answers.append(answer)
        raise JobFailed(self._no_rest_api(answers))

    def request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        query: Mapping[str, Any] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One request that may be sent again; `path` stands below `/wp/v2/`, e.g. `posts/12`.

        Raises `JobFailed` when there is no answer; what the answer says is for the caller to judge.
        """
        try:
            return self._request(method, path, deadline, query, fields, repeatable=True)
        except ExchangeFailed as error:
            raise JobFailed(no_answer(error, f"{method} {path}")) from None

    def request_once(self, path: str, deadline: Deadline, fields: Mapping[str, Any]) -> Answer:
        """A POST that must never be sent again by itself.

        Raises `ExchangeFailed`, which says whether it may have been sent, and `JobFailed` when it was
        not even tried.
        """
        return self._request("POST", path, deadline, None, fields, repeatable=False)

    def refusal(self, answer: Answer, request: str) -> Failure:
        """Classes an answer that is not what was asked for; no form of the password is in it."""
        failure = refusal(answer, request)
        said = failure.message
        if (
            failure.error_class == "wordpress_login_failed"
            and self._site is not None
            and self._site.application_passwords is False
        ):
            said += " The site offers no application passwords: it needs https, or a plugin disables them."
        return replace(failure, message=said)

    def _request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        query: Mapping[str, Any] | None,
        fields: Mapping[str, Any] | None,
        *,
        repeatable: bool,
    ) -> Answer:
        site = self._site or self._site_or_failure(deadline)
        body = None if fields is None else json.dumps(fields).encode("utf-8")
        for _ in range(2):
            address = self._address(site.pretty_addresses, f"/wp/v2/{path}", query or {})
            answer = self._exchange(method, address, body, deadline, repeatable=repeatable)
            if not _not_wordpress(answer) or (moved := self._moved(site, deadline)) is None:
                break
            site = moved
        return answer

    def _moved(self, site: Site, deadline: Deadline) -> Site | None:
        """The site, if its permalinks were changed since it was found; nothing was made then."""
        self._site = None
        try:
            found = self.site(deadline)
        except (JobFailed, ExchangeFailed):
            return None
        return found if found.pretty_addresses != site.pretty_addresses else None

    def _site_or_failure(self, deadline: Deadline) -> Site:
        try:
            return self.site(deadline)
        except ExchangeFailed as error:
            raise JobFailed(no_answer(error, "GET the REST index")) from None

    def _exchange(
        self,
        method: str,
        address: str,
        body: bytes | None,
        deadline: Deadline,
        *,
        repeatable: bool = True,
    ) -> Answer:
        within = deadline.within(self._deadline_seconds)
        password = self._password()
        while True:
            answer = self._transport.exchange(
                method,
                address,
                deadline=within,
                headers=self._headers(password, body),
                body=body,
                repeatable=repeatable,
            )
            if not login_refused(answer):
                return answer
            refused, password = password, after_refusal(self._password)
            if refused == password:
                return answer

    def _headers(self, password: str, body: bytes | None) -> dict[str, str]:
        known_secrets.register(password, "WORDPRESS_APP_PASSWORD", user=self.user)
        login = base64.b64encode(f"{self.user}:{password}".encode()).decode("ascii")
        headers = {
            "Authorization": f"Basic {login}",
            # Without it maintenance and database errors come as pages instead of JSON.
            "Accept": "application/json",
            "User-Agent": "runbook-workbench",
        }
        return (
            headers
            if body is None
            else {**headers, "Content-Type": "application/json; charset=utf-8"}
        )

    def _address(self, pretty: bool, path: str, query: Mapping[str, Any]) -> str:
        if pretty:
            return f"{self.url}/wp-json{path}" + (f"?{urlencode(query)}" if query else "")
        return f"{self.url}/?{urlencode({'rest_route': path, **query}, safe='/')}"

    def _no_rest_api(self, answers: Sequence[Answer]) -> Failure:
        # With plain permalinks the pretty address may redirect as well: only if both do it is the site's.
        telling = [answer for answer in answers if not 300 <= answer.status < 400] or answers[-1:]
        failure = self.refusal(telling[0], f"GET {self.url}/wp-json/")
        if failure.error_class == "wordpress_redirected":
            return failure
        return replace(failure, error_class="wordpress_rest_off")


def _not_wordpress(answer: Answer) -> bool:
    """Whether something answered that does not know the REST API: a redirect, or a 404 of its own."""
    return 300 <= answer.status < 400 or (
        answer.status == 404 and code_of(answer) in (None, "rest_no_route")
    )
