"""Takes secrets out of text before it goes to a log, the database, an error or a file.

Known values first, in all their forms; then patterns for secrets that this process never loaded.
Every pattern is linear in the length of the text: possessive or bounded repeats only.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from runbook_lib import known_secrets

__all__ = ["MASK", "known_secrets", "mask", "one_line", "redacted"]

MASK = "[masked]"
# They are base64, in which a pattern could only find something by chance and break the picture.
PICTURES = ("image/png", "image/jpeg", "image/gif", "application/pdf")

_TOKENS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"sk-[A-Za-z0-9_*.-]{8,}+"  # OpenAI and compatible: sk-…, sk-proj-…, sk-admin-…
    r"|sb_secret_[A-Za-z0-9_-]{8,}+"  # Supabase
    r"|sbp_[A-Za-z0-9_]{16,}+"  # Supabase, personal
    r"|eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)?"  # JSON web tokens
    r")"
)
_AUTHORIZATION = re.compile(
    r"(?i)(authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:[A-Za-z]{3,20}\s{1,4})?)([^\s\"',;]{4,}+)"
)
_BASIC_OR_BEARER = re.compile(r"(?i)(?<![A-Za-z])(basic|bearer)(\s{1,4})([A-Za-z0-9+/=._~-]{8,}+)")
_WORD = re.compile(r"[^\s\"'<>`]++")
_ASSIGNED = re.compile(
    r"(?i)(password|passwd|secret|token|api_?key)"
    r"(\s{0,4}=\s{0,4}|[\"']\s{0,4}:\s{0,4}(?=[\"']))"
    r"('(?:[^'\\\n]|\\.)*+'|\"(?:[^\"\\\n]|\\.)*+\"|[^\s&,;\"')]++)"
)
_APPLICATION_PASSWORD = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z0-9]{4}(?:(?:[ \u00a0+]|%20)[A-Za-z0-9]{4}){5}(?![A-Za-z0-9])"
)
_PLACEHOLDERS = ("", "password", "…")  # in our own texts that show how an address is written
_PORT_AND_PATH = re.compile(r"\d{1,5}/")

_TERMINAL_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*+[ -/]*+[@-~]?"  # colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*+(?:\x07|\x1b\\)?"  # titles, links
    r"|\x1b[ -/]*+[0-~]?"
    r"|\x9b[0-?]*+[ -/]*+[@-~]?"
)
_LINE_ENDS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029 ]++")
# Control characters, marks that turn the writing direction, invisible ones, halves of characters.
_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def mask(text: str) -> str:
    """The text without secrets: each is replaced by `[masked]`. Applying it twice changes nothing."""
    for form in known_secrets.forms():
        if form in text:
            text = text.replace(form, MASK)
    # From behind, so that what was found further ahead stays where it is.
    for start, end in reversed(known_secrets.split_in(text)):
        text = text[:start] + MASK + text[end:]
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def one_line(text: str, limit: int = 500) -> str:
    """Masked, without control characters, on one line of at most `limit` characters: for logs and rows.

    Masks before it cuts, since half a secret would no longer be recognised.
    """
    text = _TERMINAL_SEQUENCES.sub("", text)
    text = _LINE_ENDS.sub(" ", text).strip()
    text = mask(_INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text))
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def redacted(value: Any) -> Any:
    """Any JSON value with the secrets masked in its texts and names."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return type(value)(
            {
                redacted(name): part if name in PICTURES else redacted(part)
                for name, part in value.items()
            }
        )
    if isinstance(value, list | tuple):
        return [redacted(part) for part in value]
    return value


def _mask_basic_or_bearer(found: re.Match[str]) -> str:
    scheme, space, value = found.groups()
    if scheme.lower() == "basic" and not _is_user_and_password(value):
        return found[0]
    if scheme.lower() == "bearer" and value.isalpha() and value.islower():
        return found[0]
    return f"{scheme}{space}{MASK}"


def _is_user_and_password(value: str) -> bool:
    try:
        decoded = base64.b64decode(
            value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        return False
    return b":" in decoded and min(decoded) >= 0x20


def _mask_password_in_address(found: re.Match[str]) -> str:
    word = found[0]
    scheme, separator, rest = word.partition("://")
    if not separator or "@" not in rest:
        return word
    # The last @ ends the password: an unencoded @ or / inside it is the usual mistake.
    credentials, _, host = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    if not colon or password in _PLACEHOLDERS or "/" in user or _PORT_AND_PATH.match(password):
        return word
    return f"{scheme}://{user}:{MASK}@{host}"


def _mask_assigned(found: re.Match[str]) -> str:
    name, sign, value = found.groups()
    quotation = value[0] if value[0] in "'\"" else ""
    return f"{name}{sign}{quotation}{MASK}{quotation}" if value.strip("'\"") else found[0]


def _mask_application_password(found: re.Match[str]) -> str:
    # Six columns of four figures are years or amounts; a generated password is never all figures.
    return found[0] if found[0].replace(" ", "").isdigit() else MASK


_PATTERNS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_WORD, _mask_password_in_address),
    (_TOKENS, MASK),
    (_AUTHORIZATION, rf"\1{MASK}"),
    (_BASIC_OR_BEARER, _mask_basic_or_bearer),
    (_APPLICATION_PASSWORD, _mask_application_password),
    (_ASSIGNED, _mask_assigned),
)
