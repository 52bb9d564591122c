"""What a failure's text says: the hard facts in it, and its words with everything masked that varies.

For our own failures the facts are columns; for texts of somebody else's pipeline they are read from here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# The message inside a provider's answer, in JSON or as Python prints it.
_MESSAGE = re.compile(r"""['"](?:message|error_description|detail)['"]\s*:\s*(?:'((?:[^'\\]|\\.)+)'|"((?:[^"\\]|\\.)+)")""")  # fmt: skip
_FIELD = re.compile(r"""['"](?:code|type|error_code)['"]\s*:\s*['"]([\w.\-]+)['"]""")
_HTTP_STATUS = re.compile(r"(?i)(?:\bhttp(?:/\d(?:\.\d)?)?|\bstatus(?: code)?|\berror code|\bserver error:?|\bclient error:?|\breturned|\bresponded with|\bgot)[ :=(]*([1-5]\d\d)\b|\b([45]\d\d) (?:Client|Server) Error\b|^\s*([45]\d\d)\b|<title>\s*([45]\d\d)\b")  # fmt: skip
_SQLSTATE = re.compile(r"(?i)\b(?:sqlstate|pgcode|code)[ :=(\[]*['\"]?([0-9A-Z]{5})\b(?<=\d.{4}|.\d.{3}|..\d..|...\d.|....\d)")  # fmt: skip
_CONSTRAINT = re.compile(r'(?i)\bconstraint [`"\'«]([\w$.]+)[`"\'»]')
_CAUSED_BY = re.compile(r"(?i)\bcaused by:? (?:<class ')?([\w.]*[A-Za-z])\b")
_EXCEPTION = re.compile(r"\b(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Timeout|Refused|Warning|Fault|Interrupt|Exit|Failure))\b")  # fmt: skip
_NUMBERED = re.compile(r"(?i)\b(errno|curl error|exit (?:code|status)|signal|winerror|ora|error)[ :#\]]*(-?\d{1,5})\b")  # fmt: skip
# An identifier that is a code, not a table's name: it stands first, before a colon, or in brackets.
_CODE = re.compile(
    r"(?:^(?:\d{3} )?|(?<=[(\[]))([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?=$|[ :)\]])|(?<![\w./@-])([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?=: )"
)
# PostgreSQL shows the statement under an error.
_STATEMENT = re.compile(r"(?m)^\s*LINE \d+:.*$|^\s*\^\s*$|\[SQL: .*\]|\bLINE \d+: .*$")
_UPPER = re.compile(r"(?<![\w.\-/])(?:E[A-Z]{4,}|[A-Z]{2,6}(?:_[A-Z]+)*)(?![\w.\-/])")
_SHOUTED = frozenset(("AND", "OR", "THE", "ID", "OK", "FATAL", "ERROR", "DETAIL", "HINT", "LINE", "CONTEXT", "PANIC", "KEY", "NOT", "WARN", "INFO", "NOTICE", "SELECT", "INSERT", "UPDATE", "DELETE", "FROM", "INTO", "WHERE", "SQL", "HTTP", "HTTPS", "URL", "API", "JSON", "HTML", "GET", "POST", "PUT", "PATCH"))  # fmt: skip


def _read_cause_words() -> tuple[frozenset[str], frozenset[str]]:
    text = (Path(__file__).with_name("cause_words.txt")).read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    naming, decisive = " ".join(lines).split(" decisive ")
    return frozenset((naming + " " + decisive).split()), frozenset(decisive.split())


_CAUSE_WORDS, _DECISIVE_WORDS = _read_cause_words()
FEWEST_WORDS_OF_A_MESSAGE = 3


def _unless_a_message(quoted: re.Match[str]) -> str:
    """A mask in the place of a quoted value; a quoted message stays, since it says what went wrong."""
    words = re.findall(r"[a-z]+", quoted[0].lower())
    if len(words) >= FEWEST_WORDS_OF_A_MESSAGE and not _DECISIVE_WORDS.isdisjoint(words):
        return f" {quoted[0][1:-1]} "
    return " <text> "


_QUOTED = r"""(?<![\w])(?:'[^'\n]{0,400}'|"[^"\n]{0,400}"|`[^`\n]{0,400}`|“[^”\n]{0,400}”|«[^»\n]{0,400}»|‘[^’\n]{0,400}’)(?![\w])"""
# In this order: what is longer and more certain comes first.
_MASKS: tuple[tuple[re.Pattern[str], Any], ...] = tuple(
    (re.compile(pattern), mask)
    for pattern, mask in (
        (r"<[\w.]+ object at 0x[0-9a-fA-F]+>", " <object> "),
        (r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", " <id> "),
        (r"(?i)\b(?:https?|wss?|postgres(?:ql)?|redis)://[^\s'\"<>)\]]+", " <url> "),
        (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", " <mail> "),
        (r"\beyJ[\w-]+\.[\w-]+\.[\w-]*", " <id> "),
        (r"\b(?:sk|pk|rk|org|req|proj|chatcmpl|resp|msg|asst|run|thread|call|file|cf-ray)[-_][\w*.…-]{4,}", " <id> "),
        (r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?)?", " <time> "),
        (r"(?i)\b(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*, \d{1,2} [a-z]{3} \d{4} [\d:]+(?: GMT| UTC)?", " <time> "),
        (r"\b\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?\b", " <time> "),
        (r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b", " <host> "),
        (r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b|(?<![\w:])::1\b", " <host> "),
        (r"(?i)\b(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.){1,6}(?:com|org|net|io|co|dev|app|ai|eu|de|uk|fr|es|it|nl|pl|se|ch|at|us|ca|au|jp|in|br|info|biz|cloud|site|online|blog|news|shop|local|internal|test|example|invalid|localhost)\b(?::\d+)?", " <host> "),
        (r"\blocalhost(?::\d+)?\b", " <host> "),
        (_QUOTED, _unless_a_message),
        (r"(?<![\w<])(?:[A-Za-z]:)?(?:[/\\][\w.@%+~-]+){2,}/?", " <path> "),
        (r"\?[\w%.=&\[\]+-]+=[\w%.=&\[\]+-]*", " "),
        (r"(?<![\w<])/[\w.%-]+(?:/[\w.%-]*)*", " <path> "),
        (r"(?i)\b0x[0-9a-f]+\b", " <n> "),
        (r"(?i)\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b", " <id> "),
        (r"\([\w, ]+\)=\([^)]*\)", " <pair> "),
        (r"(?i)(?<![\w.])[-+]?\d+(?:[.,_]\d+)*\s?(?:%|ms|µs|us|s|sec|secs|seconds|minutes|min|m|h|hours|kb|mb|gb|kib|mib|gib|bytes|b|k)?(?![\w.]*\d)\b", " <n> "),
        (r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w]+(?:[-.:][\w]+)*\b", " <id> "),
        (r"\b[a-z0-9]+(?:-[a-z0-9]+){2,}\b", " <id> "),
        (r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b", " <name> "),
    )
)  # fmt: skip
_WORD = re.compile(r"<\w+>|[^\W\d_][\w'’-]*")
_SAME_MASKS = re.compile(r"(<\w+>)(?: \1)+")


def facts_in_text(text: str) -> str:
    """The hard facts that a text names, in a fixed order; empty when it names none.

    HTTP status, provider's code and type, SQLSTATE, constraint, numbers of errors, the exception and
    what it was caused by, identifiers such as `rest_cannot_create`, and abbreviations such as TPM.
    """
    text = _STATEMENT.sub(" ", _ANSI.sub("", text))
    plain = re.sub(_QUOTED, _unless_a_message, text)
    facts: list[str] = []
    for match in _HTTP_STATUS.finditer(text):
        facts.append(next(part for part in match.groups() if part))
        break
    facts += sorted(set(_FIELD.findall(text)))
    facts += [f"sqlstate={code}" for code in sorted(set(_SQLSTATE.findall(text)))]
    facts += [f"constraint={name}" for name in sorted(set(_CONSTRAINT.findall(text)))]
    facts += sorted({f"{name.lower()}={number}" for name, number in _NUMBERED.findall(text) if name.lower() != "error"})  # fmt: skip
    facts += [f"by={name.split('.')[-1]}" for name in sorted(set(_CAUSED_BY.findall(text)))]
    facts += sorted(set(_EXCEPTION.findall(text)))
    facts += sorted({first or second for first, second in _CODE.findall(plain)})
    facts += sorted(set(_UPPER.findall(plain)) - _SHOUTED)
    return " ".join(dict.fromkeys(facts))


def masked_words(text: str) -> list[str]:
    """The words of a text, lower case, with masks in the place of what varies."""
    text = _STATEMENT.sub(" ", _ANSI.sub("", text))
    if found := _MESSAGE.search(text):
        text = f"{text[: text.find('{')] if '{' in text else ''} {found[1] or found[2]}"
    text = re.sub(
        r"(?is)<(?:style|script)\b.*?</(?:style|script)>|</?[a-z][^<>]{0,200}>", " ", text
    )
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    words = [word if word[0] == "<" else word.lower() for word in _WORD.findall(text)]
    return _SAME_MASKS.sub(r"\1", " ".join(words)).split()


def names_a_cause(word: str) -> bool:
    """Whether a word tells causes apart where all else is the same."""
    return word in _CAUSE_WORDS


def is_decisive(word: str) -> bool:
    """Whether a word says what went wrong, so that it never is a part of free text."""
    return word in _DECISIVE_WORDS
