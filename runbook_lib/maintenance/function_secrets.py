"""The secrets of a Supabase project's Edge Functions, through the Management API.

This is what `supabase secrets set` changes: environment variables of functions, and not the Vault. The
API never gives a value back, only its SHA-256, so what was written is verified by that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from runbook_lib import known_secrets
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import ConfigurationError, CouldNotBeDone
from runbook_lib.pipeline.transport import Answer, ExchangeFailed, Transport
from runbook_lib.settings import Settings

ANSWER_SECONDS = 20.0
MOST_SECRETS = 100


@dataclass(frozen=True)
class FunctionSecret:
    """What the API tells of a secret."""

    name: str
    digest: str
    updated_at: str | None

    def holds(self, value: str) -> bool:
        expected = hashlib.sha256(value.encode()).hexdigest()
        return hmac.compare_digest(self.digest.strip().lower(), expected)


class FunctionSecrets:
    """One project's function secrets."""

    def __init__(self, api_url: str, project: str, token: str) -> None:
        self.project = project
        self._address = f"{api_url.rstrip('/')}/v1/projects/{quote(project, safe='')}/secrets"
        self._token = token
        known_secrets.register(token, "SUPABASE_ACCESS_TOKEN")

    @classmethod
    def of(cls, settings: Settings) -> FunctionSecrets:
        """Those that the settings name. Raises `ConfigurationError` when they do not."""
        if not settings.supabase_project or settings.supabase_access_token is None:
            raise ConfigurationError(
                "RUNBOOK_SECRET_STORE=functions needs SUPABASE_PROJECT (the project's reference) and "
                "SUPABASE_ACCESS_TOKEN (a personal access token)."
            )
        return cls(
            settings.supabase_api_url,
            settings.supabase_project,
            settings.supabase_access_token.get_secret_value(),
        )

    def listed(self) -> dict[str, FunctionSecret]:
        """All secrets by name, without values. Raises `CouldNotBeDone`."""
        answer = self._ask("GET")
        found = _json(answer)
        if answer.status != 200 or not isinstance(found, list):
            raise self._refused(answer, "list")
        return {
            str(each["name"]): FunctionSecret(
                str(each["name"]), str(each.get("value", "")), each.get("updated_at")
            )
            for each in found
            if isinstance(each, dict) and "name" in each
        }

    def write(self, name: str, value: str) -> None:
        """Sets one secret and compares its digest. Raises `CouldNotBeDone` that never shows the value."""
        there = self.listed()
        if name not in there and len(there) >= MOST_SECRETS:
            raise CouldNotBeDone(
                f"Project {self.project} has {len(there)} secrets already, and may have {MOST_SECRETS}. Remove one first."
            )
        answer = self._ask("POST", [{"name": name, "value": value}])
        if answer.status not in (200, 201):
            raise self._refused(answer, "write")
        found = self.listed().get(name)
        if found is None or not found.holds(value):
            raise CouldNotBeDone(
                f"{name} was sent to project {self.project}, but its digest is not that of the new value: "
                "the functions do not have it. Look at the project's secrets, and activate it again."
            )

    def _ask(self, method: str, body: Any = None) -> Answer:
        transport = Transport(connections=1)
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json",
            "User-Agent": "runbook-workbench",
            **({} if body is None else {"Content-Type": "application/json"}),
        }
        try:
            return transport.exchange(
                method,
                self._address,
                deadline=Deadline.after(ANSWER_SECONDS),
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
            )
        except ExchangeFailed as error:
            raise CouldNotBeDone(f"The Management API did not answer: {error}.") from None
        finally:
            transport.close()

    def _refused(self, answer: Answer, what: str) -> CouldNotBeDone:
        # Its message is not repeated: a refusal may quote the body, which holds the value.
        reasons = {
            401: "the access token is not valid: make one under Account → Access Tokens.",
            403: "the access token may not do this in this project.",
            404: "there is no such project; SUPABASE_PROJECT is the reference in its address.",
            429: "too many requests; wait a minute.",
        }
        reason = reasons.get(answer.status, "see the status page of Supabase if it stays.")
        return CouldNotBeDone(
            f"The Management API refused to {what} the secrets of project {self.project} with {answer.status}: {reason}"
        )


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
