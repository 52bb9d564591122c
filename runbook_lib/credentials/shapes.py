"""What a credential must look like before anybody is asked whether it is right."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from runbook_lib.credentials.names import NAMES
from runbook_lib.errors import NotFoundError, UsageError

LONGEST_CHARACTERS = 4096
_KEY = re.compile(r"[\x21-\x7e]+")
_GROUPED = re.compile(r"[A-Za-z0-9]{4}( [A-Za-z0-9]{4}){5}")
_TOGETHER = re.compile(r"[A-Za-z0-9]{24}")


def require_name(name: str) -> str:
    """The name in capitals. Raises `NotFoundError` for what is no credential."""
    found = name.strip().upper().replace("-", "_")
    if found not in NAMES:
        # It is not repeated: whoever mistook the order of the arguments typed the secret there.
        raise NotFoundError(
            f"That is not the name of a credential. There are {', '.join(NAMES)}. "
            "A value is never an argument: it is asked for, or read from stdin or --from-file."
        )
    return found


def cleaned(name: str, text: str) -> str:
    """The value as it was meant: one line end after it goes, as `echo` and editors leave it.

    Raises `UsageError` that says what is wrong with it and never shows it.
    """
    value = text.removesuffix("\n").removesuffix("\r")
    problem = _problem(name, value)
    if problem:
        raise UsageError(f"{name} was not taken: {problem} Nothing was changed.")
    return value


def _problem(name: str, value: str) -> str | None:
    if not value.strip():
        return "it is empty."
    if len(value) > LONGEST_CHARACTERS:
        return f"it is longer than {LONGEST_CHARACTERS} characters."
    if any(character in value for character in "\r\n"):
        return "there is a line end inside it; copy it again, as one line."
    if not value.isprintable() or not value.isascii():
        return "it holds a control character or one outside ASCII; copy it again."
    if value != value.strip():
        return "there is a blank before or after it; copy it again."
    if name.startswith("OPENAI_"):
        return _problem_of_key(name, value)
    if name == "WORDPRESS_APP_PASSWORD":
        return _problem_of_application_password(value)
    return _problem_of_address(value)


def _problem_of_key(name: str, value: str) -> str | None:
    if not _KEY.fullmatch(value):
        return "there is a blank inside it; copy it again."
    if value.startswith(("OPENAI_", "Bearer", "export")) or value[0] in "'\"":
        return "something stands before the key itself: only the key is wanted."
    if name == "OPENAI_API_KEY" and value.startswith("sk-admin-"):
        return "this is an admin key, which writes nothing and must not be in a worker."
    if name == "OPENAI_ADMIN_KEY" and value.startswith("sk-") and not value.startswith("sk-admin-"):
        return "this is an ordinary key; an admin key begins with sk-admin-."
    return None


def _problem_of_application_password(value: str) -> str | None:
    if _GROUPED.fullmatch(value) or _TOGETHER.fullmatch(value):
        return None
    return (
        "an application password has 24 letters and figures, in six groups of four. "
        "The password with which a person logs in does not work here."
    )


def _problem_of_address(value: str) -> str | None:
    from runbook_lib.database.connection import normalise_url
    from runbook_lib.errors import ConfigurationError

    try:
        parts = urlsplit(normalise_url(value))
    except ConfigurationError as error:
        return str(error)
    if not parts.username or not unquote(parts.password or ""):
        return "the address names no user or no password."
    return None
