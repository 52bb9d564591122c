"""The `openai` package over our own transport, so that each call ends by its deadline.

Importing this module imports the package, which takes about a second: import it late.

The package is built on httpx2, whose time-outs count per read. Here a call's bytes go through
`pipeline.transport`, whose watchdog knows every socket from before it connects; httpx2 carries the request
to it and the whole answer back. Retries of the package are off: only our own ledger repeats a call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from runbook_lib import known_secrets
from runbook_lib.credentials.store import after_refusal
from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.failures import Failure
from runbook_lib.pipeline.openai_answers import no_answer, refusal
from runbook_lib.pipeline.transport import ExchangeFailed, Transport

LONGEST_ANSWER_BYTES = 8 * 1024 * 1024
# Set by the transport itself, or true of the bytes that came and not of those handed on.
_HOP_HEADERS = frozenset({"host", "connection", "content-length", "accept-encoding"})
_CODING_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Reply:
    """A whole answer. Header names are compared without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    exception_class: str | None = None

    def refusal(self) -> Failure:
        return refusal(self.status, self.headers, self.body, self.exception_class)


class OpenAIClient:
    """One server and one model; threads may share it.

    `api_key` is asked for each request, so that a rotated key is used at once; on a refused one it is
    asked again.
    """

    def __init__(self, base_url: str, api_key: Callable[[], str], *, connections: int) -> None:
        self._api_key = api_key
        self._transport = Transport(
            connections=connections, maximum_answer_bytes=LONGEST_ANSWER_BYTES
        )
        self._client = openai.OpenAI(
            # The real one travels with each request; this stands where the package insists on one.
            api_key="set-for-each-request",
            base_url=base_url,
            max_retries=0,
            http_client=httpx2.Client(
                transport=_Bridge(self._transport), trust_env=False, follow_redirects=False
            ),
        )

    def close(self) -> None:
        self._client.close()
        self._transport.close()

    def complete(self, parameters: Mapping[str, Any], deadline: Deadline) -> Reply | Failure:
        """Asks for one chat completion; a `Failure` when there is no answer, whatever its status."""
        key = self._api_key()
        while True:
            answer = self._complete(key, parameters, deadline)
            if isinstance(answer, Failure) or answer.status != 401:
                return answer
            refused, key = key, after_refusal(self._api_key)
            if refused == key or deadline.passed():
                return answer

    def _complete(
        self, key: str, parameters: Mapping[str, Any], deadline: Deadline
    ) -> Reply | Failure:
        if not _KEY.fullmatch(key):
            # Sent, it would fail as a broken connection, with the key in the text of the cause.
            return Failure(
                "openai_key_invalid",
                "The API key is empty, or holds white space or a character outside ASCII; it was not sent.",
                stage="write",
                provider="openai",
            )
        known_secrets.register(key, "OPENAI_API_KEY")
        try:
            answer = self._client.chat.completions.with_raw_response.create(
                **parameters,
                timeout=deadline.remaining_seconds(),
                extra_headers={"Authorization": f"Bearer {key}"},
            )
            return Reply(answer.status_code, answer.headers, answer.content)
        except openai.APIStatusError as error:
            found = error.response
            return Reply(found.status_code, found.headers, found.content, type(error).__name__)
        except ExchangeFailed as error:
            return no_answer(error)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, openai.APIConnectionError) as error:
            return Failure(
                "openai_wrong_address",
                "OPENAI_BASE_URL is not an address that can be called.",
                stage="write",
                provider="openai",
                exception_class=type(error).__name__,
            )


class _Bridge(httpx2.BaseTransport):
    """Carries a request of httpx2 to our transport. The request's time-out is its total deadline."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {
            name: value for name, value in request.headers.items() if name not in _HOP_HEADERS
        }
        answer = self._transport.exchange(
            request.method,
            str(request.url),
            deadline=Deadline.after(request.extensions["timeout"]["read"]),
            headers=headers,
            body=request.read(),
            # A request that broke may have been paid for; our ledger decides whether to ask again.
            repeatable=False,
        )
        kept = [
            (name, value)
            for name, value in answer.headers.items()
            if name.lower() not in _CODING_HEADERS
        ]
        return httpx2.Response(answer.status, headers=kept, content=answer.body, request=request)
