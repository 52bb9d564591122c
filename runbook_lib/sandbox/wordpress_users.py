"""Users of the stand-in WordPress: roles, what they may do, and their application passwords."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import time
import uuid
from base64 import b64decode
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from runbook_lib.sandbox.faults import Struck
from runbook_lib.sandbox.messages import Request
from runbook_lib.sandbox.storage import Row, Storage
from runbook_lib.sandbox.wordpress_refusals import Refused, not_allowed

EMAIL_DOMAIN = "example.test"
PASSWORD_CHARACTERS = 24
_DAY_SECONDS = 86_400

_READ = {"read": True, "level_0": True}
_CONTRIBUTOR = {"edit_posts": True, **_READ, "level_1": True, "delete_posts": True}
_AUTHOR = {"upload_files": True, "edit_posts": True, "edit_published_posts": True, "publish_posts": True, "read": True, "level_2": True, "level_1": True, "level_0": True, "delete_posts": True, "delete_published_posts": True}  # fmt: skip
_EDITOR = {"moderate_comments": True, "manage_categories": True, "manage_links": True, "upload_files": True, "unfiltered_html": True, "edit_posts": True, "edit_others_posts": True, "edit_published_posts": True, "publish_posts": True, "edit_pages": True, "read": True, "level_7": True, "level_6": True, "level_5": True, "level_4": True, "level_3": True, "level_2": True, "level_1": True, "level_0": True, "edit_others_pages": True, "edit_published_pages": True, "publish_pages": True, "delete_pages": True, "delete_others_pages": True, "delete_published_pages": True, "delete_posts": True, "delete_others_posts": True, "delete_published_posts": True, "delete_private_posts": True, "edit_private_posts": True, "read_private_posts": True, "delete_private_pages": True, "edit_private_pages": True, "read_private_pages": True}  # fmt: skip
_CAPABILITIES: dict[str, dict[str, bool]] = {
    "administrator": {**_EDITOR, "manage_options": True, "list_users": True, "edit_users": True, "create_users": True, "promote_users": True, "install_plugins": True, "activate_plugins": True},
    "editor": _EDITOR,
    "author": _AUTHOR,
    "contributor": _CONTRIBUTOR,
    "subscriber": _READ,
    "none": {},
}  # fmt: skip


@dataclass(frozen=True)
class User:
    """Who is asking; `password_uuid` is the application password that was used."""

    user_id: int
    login: str
    role: str
    registered_at: float
    password_uuid: str | None = None

    def may(self, capability: str) -> bool:
        return _CAPABILITIES[self.role].get(capability, False)

    def capabilities(self) -> dict[str, bool]:
        return {**_CAPABILITIES[self.role], self.role: True}


class Users:
    """Who may log in."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def make(self, login: str, role: str) -> tuple[User, str]:
        """A user (an existing one gets the role) and a new application password of it."""
        self._storage.execute("add_user", login=login, role=role, now=time.time())
        user = self.find(login)
        assert user is not None
        password, _ = self.make_password(user, "sandbox")
        return user, password

    def find(self, login: str) -> User | None:
        row = self._storage.row("find_user", login=login)
        return User(**row) if row else None

    def everyone(self) -> list[User]:
        return [User(**row) for row in self._storage.rows("list_users")]

    def make_password(self, user: User, name: str) -> tuple[str, Row]:
        """A new application password, in groups of four as WordPress shows it."""
        alphabet = string.ascii_letters + string.digits
        password = "".join(secrets.choice(alphabet) for _ in range(PASSWORD_CHARACTERS))
        self.add_password(user, password, name)
        grouped = " ".join(password[at : at + 4] for at in range(0, PASSWORD_CHARACTERS, 4))
        return grouped, self.passwords(user)[-1]

    def add_password(self, user: User, password: str, name: str) -> None:
        self._storage.execute(
            "add_application_password",
            uuid=str(uuid.uuid4()),
            user_id=user.user_id,
            name=name,
            password=password.replace(" ", ""),
            now=time.time(),
        )

    def passwords(self, user: User) -> list[Row]:
        return self._storage.rows("list_application_passwords", user_id=user.user_id)

    def revoke(self, user: User, password_uuid: str) -> bool:
        return (
            self._storage.count(
                "remove_application_password", uuid=password_uuid, user_id=user.user_id
            )
            > 0
        )

    def logged_in(self, request: Request, struck: Struck) -> User | None:
        """The user of a request, None for nobody: a wrong password is nobody, not an error.

        Raises `Refused` where a plugin looks at logins early.
        """
        given = "" if struck.condition("strip_auth") else request.headers.get("authorization", "")
        login, password = _read_basic(given)
        if login is None or struck.condition("no_application_passwords"):
            return None
        user = self.find(login.removesuffix(f"@{EMAIL_DOMAIN}"))
        found = (
            None
            if user is None or struck.condition("login_revoked")
            else self._fitting(user, password)
        )
        if user is None or found is None:
            if struck.condition("security_plugin"):
                raise _early_refusal(login, known=user is not None)
            return None
        now = time.time()
        if (found["last_used_at"] or 0) < now - _DAY_SECONDS:
            self._storage.execute(
                "touch_application_password",
                uuid=found["uuid"],
                now=now,
                address=request.client_address,
            )
        lowered = struck.condition("permission_lost")
        role = lowered.option("role") if lowered else user.role
        return replace(user, role=role, password_uuid=found["uuid"])

    def _fitting(self, user: User, password: str) -> Row | None:
        given = password.replace(" ", "").encode()
        for row in self.passwords(user):
            if hmac.compare_digest(row["password"].encode(), given):
                return row
        return None


def _read_basic(header: str) -> tuple[str | None, str]:
    if not header.lower().startswith("basic "):
        return None, ""
    try:
        login, colon, password = b64decode(header[6:], validate=True).decode("utf-8").partition(":")
    except ValueError:
        return None, ""
    return (login if colon else None), password


def _early_refusal(login: str, *, known: bool) -> Refused:
    if known:
        return Refused(
            401, "incorrect_password", "The provided password is an invalid application password."
        )
    if "@" in login:
        return Refused(401, "invalid_email", "<strong>Error:</strong> Unknown email address. Check again or try your username.")  # fmt: skip
    return Refused(401, "invalid_username", "<strong>Error:</strong> Unknown username. Check again or try your email address.")  # fmt: skip


def require_login(user: User | None) -> User:
    """Raises `Refused` for nobody."""
    if user is None:
        raise Refused(401, "rest_not_logged_in", "You are not currently logged in.")
    return user


def describe_user(user: User, site: str, context: str) -> dict[str, Any]:
    """The user as the REST API shows it; roles and capabilities only in the edit context."""
    picture = hashlib.sha256(f"{user.login}@{EMAIL_DOMAIN}".encode()).hexdigest()
    shown: dict[str, Any] = {"id": user.user_id}
    if context == "edit":
        shown["username"] = user.login
    shown["name"] = user.login
    if context == "edit":
        shown |= {"first_name": "", "last_name": "", "email": f"{user.login}@{EMAIL_DOMAIN}"}
    shown |= {"url": "", "description": "", "link": f"{site}/author/{user.login}/"}
    if context == "edit":
        shown |= {"locale": "en_US", "nickname": user.login}
    shown["slug"] = user.login
    if context == "edit":
        shown |= {
            "roles": [] if user.role == "none" else [user.role],
            "registered_date": datetime.fromtimestamp(user.registered_at, UTC).strftime(
                "%Y-%m-%dT%H:%M:%S+00:00"
            ),
            "capabilities": user.capabilities(),
            "extra_capabilities": {user.role: True},
        }
    shown["avatar_urls"] = {
        str(size): f"https://secure.gravatar.com/avatar/{picture}?s={size}&d=mm&r=g"
        for size in (24, 48, 96)
    }
    shown["meta"] = {"persisted_preferences": []} if context == "edit" else []
    base = f"{site}/wp-json/wp/v2/users"
    shown["_links"] = {"self": [{"href": f"{base}/{user.user_id}"}], "collection": [{"href": base}]}
    return shown


def require_user_list(user: User | None) -> None:
    """Raises `Refused` for whoever may not see the users in the edit context."""
    if user is None or not user.may("list_users"):
        raise not_allowed(
            user is not None, "rest_forbidden_context", "Sorry, you are not allowed to edit users."
        )


def describe_password(row: Row) -> dict[str, Any]:
    """An application password as the REST API shows it, never the password itself."""
    return {
        "uuid": row["uuid"],
        "app_id": "",
        "name": row["name"],
        "created": _moment(row["created_at"]),
        "last_used": _moment(row["last_used_at"]),
        "last_ip": row["last_address"],
    }


def _moment(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
