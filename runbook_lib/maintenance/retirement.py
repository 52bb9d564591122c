"""The last step of a rotation: the earlier value is revoked, and nobody takes it any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runbook_lib.changes import admin_action
from runbook_lib.credentials.staging import KeptValue
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import CouldNotBeDone, PlanRefused, UsageError
from runbook_lib.health.checks import Check
from runbook_lib.maintenance.rotation import Rotation
from runbook_lib.maintenance.secret_tests import answer_to, wordpress_client
from runbook_lib.pipeline.failures import JobFailed


@dataclass(frozen=True)
class Retired:
    """How the earlier value stands. `where` says what to revoke, and where, in words."""

    name: str
    handle: str
    where: str
    check: Check

    @property
    def done(self) -> bool:
        return self.check.verdict == "ok"

    def results(self) -> dict[str, Any]:
        return {"name": self.name, "handle": self.handle, "where": self.where, "done": self.done}


def retire(rotation: Rotation, *, revoke: bool = False, anyway: bool = False, reason: str | None = None) -> Retired:  # fmt: skip
    """Looks whether the earlier value is still taken; `revoke` takes it away first where that can be done here.

    Once its provider answers 401 it is forgotten here too. Raises `PlanRefused` while a running worker
    still uses it, unless `anyway`; `UsageError` when there is no earlier value.
    """
    with rotation.waiting.lock():
        earlier = rotation.waiting.find("earlier", rotation.name)
        if earlier is None:
            raise UsageError(f"There is no earlier value of {rotation.name} here: nothing is to be retired.")  # fmt: skip
        if earlier.handle == rotation.present_handle():
            raise PlanRefused(f"{earlier.handle} is the value in use: it was not replaced, or put back. Nothing was revoked.")  # fmt: skip
        if not anyway:
            _require_unused(rotation, earlier)
        where = where_to_revoke(rotation, earlier)
        with admin_action(
            rotation.database, actor=rotation.actor, action="secrets.retire", target=rotation.name, reason=reason
        ) as action:  # fmt: skip
            if revoke:
                _revoke(rotation, earlier)
            check = _judged(rotation, earlier, where)
            action.after = {"handle": earlier.handle, "verdict": check.verdict}
        if check.verdict == "ok":
            rotation.waiting.forget("earlier", rotation.name)
    return Retired(rotation.name, earlier.handle, where, check)


def where_to_revoke(rotation: Rotation, earlier: KeptValue) -> str:
    """What is to be revoked and where; an application password is named as the site names it."""
    name = rotation.name
    if name == "WORDPRESS_APP_PASSWORD":
        named = _name_at_the_site(rotation, earlier)
        return f"WordPress: Users → {rotation.settings.wordpress_user} → Application Passwords → Revoke {named}."
    if name == "OPENAI_API_KEY":
        return "OpenAI: platform.openai.com → the project → API keys → delete the old key (the one whose last use has stopped)."
    if name == "OPENAI_ADMIN_KEY":
        return (
            "OpenAI: platform.openai.com → organization settings → Admin keys → delete the old key."
        )
    user = urlsplit(earlier.value).username
    if user == urlsplit(rotation.settings.database_url.get_secret_value()).username:  # type: ignore[union-attr]
        return f"The server: role {user} has one password, so setting the new one has ended the old one."
    return f'The server: ALTER ROLE "{user}" NOLOGIN; and once its sessions have ended, drop it.'


def _require_unused(rotation: Rotation, earlier: KeptValue) -> None:
    check = rotation.verify()
    users = [user for user in rotation.users() if user.handle == earlier.handle]
    if check.verdict == "critical" or users:
        raise PlanRefused(
            f"{earlier.handle} was not retired: revoked now, it would fail jobs. {check.message} {check.next or ''} "
            "If it was stolen and every minute counts, --anyway does it."
        )


def _name_at_the_site(rotation: Rotation, earlier: KeptValue) -> str:
    try:
        with wordpress_client(rotation.settings, earlier.value) as client:
            found = client.application_password(Deadline.after(10))
    except (JobFailed, CouldNotBeDone):
        return "the old one (the site no longer tells which)"
    return f"{found.name!r} (made {found.created})"


def _revoke(rotation: Rotation, earlier: KeptValue) -> None:
    if rotation.name != "WORDPRESS_APP_PASSWORD":
        raise UsageError(f"{rotation.name} cannot be revoked from here. {where_to_revoke(rotation, earlier)}")  # fmt: skip
    deadline = Deadline.after(30)
    try:
        with wordpress_client(rotation.settings, earlier.value) as client:
            # Asked with the old one: it names itself, so that no other is taken away.
            uuid = client.application_password(deadline).uuid
            client.revoke_application_password(uuid, deadline)
    except JobFailed as error:
        if error.failure.error_class != "wordpress_login_failed":
            raise CouldNotBeDone(f"The site revoked nothing: {error.failure.message}") from None


def _judged(rotation: Rotation, earlier: KeptValue, where: str) -> Check:
    name = f"secrets.{rotation.name.lower()}.retired"
    answer = answer_to(rotation.settings, rotation.name, earlier.value)
    if answer == "refused":
        said = (
            "the server refuses it"
            if rotation.name == "DATABASE_URL"
            else "its provider answers 401"
        )
        return Check(name, "ok", f"{earlier.handle} is dead: {said}. It was forgotten here.", source="the provider")  # fmt: skip
    if answer == "accepted":
        return Check(
            name, "warning", f"{earlier.handle} is still accepted.", source="the provider",
            next=f"{where} Then `runbook secrets retire {rotation.name}` again.",
        )  # fmt: skip
    return Check(
        name, "not_enough_data", f"Nobody answered whether {earlier.handle} is still accepted.",
        source="the provider", next=f"Try again later. {where}",
    )  # fmt: skip
