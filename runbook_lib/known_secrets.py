"""The secret values that this process has loaded, in every form in which they turn up in text.

Settings, the credential store and the embedded database register what they load; masking and the
archive's last check read it. It stands below settings, so that whatever loads a secret can register it.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote, urlsplit

# Shorter values and these words stand in ordinary text so often that masking them everywhere would
# only make texts unreadable. Where they stand as a password (`user:…@`, `password=…`) the patterns
# of masking find them.
SHORTEST_CHARACTERS = 6
# What is broken over lines or cut short must be longer than this to be told from ordinary text.
SHORTEST_SPLIT_CHARACTERS = 10
SHORTEST_CUT_CHARACTERS = 12
# Where a line was broken: with the quotation marks around it, as JSON and pprint write them; and blanks.
_BREAKS = re.compile(r"""(?:\\n)?['"]?,?\s*\n\s*['"]?|\\n|\s""")
COMMON_WORDS = frozenset({"postgres", "postgresql", "password", "runbook", "wordpress", "openai"})
_PUNCTUATION = dict.fromkeys(map(ord, " \t\n\r\v\f'\",\\"))

_APPLICATION_PASSWORD = re.compile(r"(?:[A-Za-z0-9]{4} ?){5}[A-Za-z0-9]{4}")

_lock = threading.Lock()
_forms: dict[str, str] = {}
_longest_first: tuple[str, ...] = ()


def register(value: str, name: str = "a secret", *, user: str | None = None) -> None:
    """Makes a secret known. `user` adds the Basic header of `user:value`. Cheap when known already."""
    value = value.strip()
    if len(value) < SHORTEST_CHARACTERS or value.lower() in COMMON_WORDS:
        return
    found = _derived_forms(value)
    if user:
        found |= _base64_forms(f"{user}:{value}")
    _add(found, name)


def register_address(address: str, name: str = "a password in an address") -> None:
    """Makes the password inside an address such as `postgresql://user:password@host/` known."""
    try:
        written = urlsplit(address.strip()).password
    except ValueError:
        return
    if written:
        register(written, name)
        register(unquote(written), name)


def register_service_address(address: str, name: str = "a service's address") -> None:
    """Makes known what is secret in an address that carries its credentials, as those of alerts do.

    That is the whole of it, its user and password, and every other piece that looks generated.
    """
    address = address.strip()
    register(address, name)
    register_address(address, name)
    _, _, rest = address.partition("://")
    credentials, separator, _ = rest.partition("@")
    if separator:
        register(unquote(credentials), name)
    for piece in re.split(r"[/?&=@:#,]", rest):
        if _looks_generated(piece):
            register(piece, name)
            register(unquote(piece), name)


def _looks_generated(piece: str) -> bool:
    """Letters and figures mixed without being a host's name, or very long."""
    if len(piece) < 8 or "." in piece:
        return False
    mixed = any(each.isdigit() for each in piece) and any(each.isalpha() for each in piece)
    return mixed or len(piece) >= 16


def forms() -> tuple[str, ...]:
    """Every known form, the longest first, so that a form inside another never leaves a rest."""
    return _longest_first


def found_in(data: bytes) -> list[str]:
    """Names of the known secrets that occur in these bytes, in any form: the check before a file is kept."""
    with _lock:
        known = dict(_forms)
    found = {name for form, name in known.items() if form.encode("utf-8", "surrogatepass") in data}
    text = data.decode("utf-8", "surrogateescape")
    if split := _broken_forms(text):
        found |= {name for form, name in known.items() if _without_blanks(form) in split}
    return sorted(found)


def split_in(text: str) -> list[tuple[int, int]]:
    """Where in a text known secrets stand that were broken: over lines, or cut short with an ellipsis.

    A wrapped print, base64 in lines of 76, pprint's strings in parts, a table's column that is too narrow.
    """
    found: list[tuple[int, int]] = []
    if "\n" in text:
        found += _broken_in(text)
    if "..." in text or "…" in text:
        found += _cut_short_in(text)
    return _merged(found)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that overlap or touch as one, in order."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _broken_in(text: str) -> list[tuple[int, int]]:
    split = _broken_forms(text)
    if not split:
        return []
    joined = _BREAKS.sub("", text)
    # Where each character of what was joined stands in the text.
    at = [index for start, end in _kept_parts(text) for index in range(start, end)]
    found = []
    for together in split:
        start = joined.find(together)
        while start >= 0:
            found.append((at[start], at[start + len(together) - 1] + 1))
            start = joined.find(together, start + len(together))
    return found


def _broken_forms(text: str) -> list[str]:
    """The known forms that the text holds once blanks and the ends of lines are taken out."""
    # The bare letters are quick to compare, and tell almost always that there is nothing.
    bare = text.replace("\\n", "").translate(_PUNCTUATION)
    likely = [form for form in _together(forms()) if form.translate(_PUNCTUATION) in bare]
    if not likely:
        return []
    joined = _BREAKS.sub("", text)
    return [form for form in likely if form in joined]


def _kept_parts(text: str) -> list[tuple[int, int]]:
    parts, begin = [], 0
    for gap in _BREAKS.finditer(text):
        parts.append((begin, gap.start()))
        begin = gap.end()
    return [*parts, (begin, len(text))]


def _cut_short_in(text: str) -> list[tuple[int, int]]:
    found = []
    for form in forms():
        beginning = form[:SHORTEST_CUT_CHARACTERS]
        if len(form) <= SHORTEST_CUT_CHARACTERS:
            continue
        start = text.find(beginning)
        while start >= 0:
            end = start + len(beginning)
            while end < len(text) and end - start < len(form) and text[end] == form[end - start]:
                end += 1
            if text.startswith(("...", "…"), end):
                found.append((start, end))
            start = text.find(beginning, end)
    return found


@lru_cache(maxsize=1)
def _together(known: tuple[str, ...]) -> tuple[str, ...]:
    found = {_without_blanks(form) for form in known}
    return tuple(
        sorted(
            (each for each in found if len(each) >= SHORTEST_SPLIT_CHARACTERS),
            key=len,
            reverse=True,
        )
    )


def _without_blanks(form: str) -> str:
    return "".join(form.split())


def _add(found: set[str], name: str) -> None:
    global _longest_first
    with _lock:
        new = {form: name for form in found if form not in _forms}
        if new:
            _forms.update(new)
            _longest_first = tuple(sorted(_forms, key=len, reverse=True))


def _derived_forms(value: str) -> set[str]:
    spellings = {value}
    if _APPLICATION_PASSWORD.fullmatch(value):
        # WordPress shows it in groups of four and accepts it with or without the spaces.
        together = value.replace(" ", "")
        spellings |= {together, " ".join(re.findall("....", together))}
    found: set[str] = set()
    for spelling in spellings:
        found |= _written_forms(spelling) | _base64_forms(spelling)
    return {form for form in found if len(form) >= SHORTEST_CHARACTERS}


def _written_forms(value: str) -> set[str]:
    percent = {quote(value, safe=""), quote(value), quote_plus(value)}
    lower = {re.sub("%..", lambda code: code[0].lower(), form) for form in percent}
    in_json = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    twice = {json.dumps(form)[1:-1] for form in in_json}
    in_python = {repr(value)[1:-1]}
    in_libpq = {value.replace("\\", "\\\\").replace("'", "\\'")}
    return {value, html.escape(value)} | percent | lower | in_json | twice | in_python | in_libpq


def _base64_forms(value: str) -> set[str]:
    """Base64 of the value, alone and inside a longer text such as `user:value`.

    Three characters stand for two to three bytes, so the same bytes look different at each of three
    offsets; what is cut off at both ends depends on the neighbours.
    """
    data = value.encode("utf-8", "surrogatepass")
    found = set()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + data)
        whole_groups = (offset + len(data)) // 3 * 4
        core = encoded[(0, 2, 3)[offset] : whole_groups].decode("ascii")
        if len(core) >= 8:
            found |= {core, core.replace("+", "-").replace("/", "_")}
    alone = base64.b64encode(data).decode("ascii")
    return found | {alone, alone.replace("+", "-").replace("/", "_")}
