"""Parameters of a procedure: declared in its notebook, read without executing it, checked, injected.

papermill takes any name, only warns about unknown ones, and pastes a name into the code as it is (a
name with a newline is executed). So names and values are checked here against the declarations, and
what is injected is a literal that we write.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import json
import keyword
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from runbook_lib.credentials.masking import MASK, mask
from runbook_lib.errors import UsageError

LONGEST_TEXT_CHARACTERS = 10_000
_SECRET_NAME = re.compile(r"(?i)(^|_)(password|passwd|secret|token|api_?key|credentials?)(_|$)")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_KINDS: dict[str, tuple[str, type]] = {
    "bool": ("true or false", bool),
    "int": ("a whole number", int),
    "float": ("a number", float),
    "str": ("a text", str),
    "list": ("a list", list),
    "dict": ("a mapping", dict),
    "date": ("a date such as 2026-11-24", date),
    "datetime": ("a time such as 2026-11-24T03:00:00+00:00", datetime),
    "decimal": ("a decimal number", Decimal),
}


class ParametersRefused(UsageError):
    """A parameter that the procedure does not declare, or a value that it does not take."""


def parameter(
    default: Any,
    *,
    minimum: Any = None,
    maximum: Any = None,
    choices: Sequence[Any] | None = None,
    unit: str | None = None,
    help: str = "",
    kind: str | None = None,
) -> Any:
    """Declares a parameter in a notebook's cell tagged `parameters`; returns the default.

    `kind` is needed only where the default does not say it: `date`, `datetime` or `decimal` (their
    default is a text), or any kind whose default is None, which makes the parameter optional.
    """
    return _converted(default, kind) if kind in ("date", "datetime", "decimal") else default


@dataclass(frozen=True)
class Declaration:
    """One declared parameter. `kind` is a name of `_KINDS`; `optional` ones take None."""

    name: str
    default: Any
    kind: str
    optional: bool = False
    minimum: Any = None
    maximum: Any = None
    choices: tuple[Any, ...] | None = None
    unit: str | None = None
    help: str = ""

    def described(self) -> dict[str, Any]:
        """The declaration as data, for a form and for help: dates and decimals are texts."""
        limits = {"minimum": self.minimum, "maximum": self.maximum, "default": self.default}
        return {
            "name": self.name,
            "kind": self.kind,
            "optional": self.optional,
            **plain(limits),
            "choices": None
            if self.choices is None
            else list(plain(dict(enumerate(self.choices))).values()),
            "unit": self.unit,
            "help": self.help,
            "takes": self.range_in_words(),
        }

    def range_in_words(self) -> str:
        """What it takes, for help and refusals: `a whole number from 1 to 366 days`."""
        words = _KINDS[self.kind][0]
        if self.choices is not None:
            words = "one of " + ", ".join(map(str, self.choices))
        elif self.minimum is not None and self.maximum is not None:
            words += f" from {self.minimum} to {self.maximum}"
        elif self.minimum is not None:
            words += f" of at least {self.minimum}"
        elif self.maximum is not None:
            words += f" of at most {self.maximum}"
        words += f" {self.unit}" if self.unit else ""
        return f"{words}, or none" if self.optional else words


def read_declarations(source: str) -> dict[str, Declaration]:
    """The declarations in the text of a parameters cell, in order. Nothing of it is executed.

    Raises `UsageError` with the line for anything but `name = parameter(literals)`, `name = literal`,
    imports and texts.
    """
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise UsageError(f"The parameters cell, line {error.lineno}: {error.msg}.") from None
    found: dict[str, Declaration] = {}
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_text(statement):
            continue
        declaration = _declaration(statement)
        if declaration.name in found:
            raise _at(statement, f"{declaration.name} is declared twice")
        found[declaration.name] = declaration
    return found


def check(declarations: Mapping[str, Declaration], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values, each as its declared type. Raises `ParametersRefused` naming every fault."""
    checked, problems = {}, []
    for name, value in given.items():
        if name not in declarations:
            problems.append(_unknown(str(name), list(declarations)))
            continue
        if mask(str(value)) != str(value):
            problems.append(
                f"{name} = {MASK}: it holds a secret, and secrets are never parameters. Set it as a setting."
            )
            continue
        try:
            checked[name] = _checked(declarations[name], value)
        except ValueError as error:
            problems.append(f"{name} = {_shown(value)}: {error}")
    if problems:
        raise ParametersRefused(" ".join(problems))
    return checked


def from_texts(declarations: Mapping[str, Declaration], given: Mapping[str, str]) -> dict[str, Any]:
    """Values typed on a command line, by their declared kinds; what does not convert is left for `check`."""
    return {
        name: _from_text(declarations[name], text) if name in declarations else text
        for name, text in given.items()
    }


def injected_source(values: Mapping[str, Any]) -> str:
    """The code of the cell that sets checked values: literals, or constructors around them."""
    lines = []
    if any(isinstance(value, date) for value in values.values()):
        lines.append("import datetime")
    if any(isinstance(value, Decimal) for value in values.values()):
        lines.append("from decimal import Decimal")
    lines += [f"{name} = {_literal(value)}" for name, value in values.items()]
    return "\n".join(lines)


def plain(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Values as they stand in a record: dates and decimals as texts."""
    return {
        name: value.isoformat()
        if isinstance(value, date)
        else str(value)
        if isinstance(value, Decimal)
        else value
        for name, value in values.items()
    }


def nearest(name: str, names: Sequence[str]) -> str:
    """`; did you mean …?` for a name that is nearly one of these, else nothing."""
    found = difflib.get_close_matches(name, names, 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _declaration(statement: ast.stmt) -> Declaration:
    target, value = _assignment(statement)
    if value is None or target is None:
        raise _at(statement, "expected name = parameter(…)")
    name = target
    if _SECRET_NAME.search(name):
        raise _at(statement, f"{name} sounds like a secret; secrets are settings, never parameters")
    if keyword.iskeyword(name) or hasattr(builtins, name) or name.startswith("_"):
        raise _at(statement, f"{name} cannot be the name of a parameter")
    if isinstance(value, ast.Call):
        options = _call_options(statement, value)
    else:
        options = {"default": _constant(statement, value)}
    default, kind = options.pop("default"), options.pop("kind", None)
    kind = kind or _kind_of(default)
    if kind not in _KINDS:
        raise _at(statement, f"{name} needs kind=, one of {', '.join(_KINDS)}")
    choices = options.pop("choices", None)
    try:
        return _consistent(
            Declaration(
                name,
                _converted(default, kind),
                kind,
                optional=default is None,
                minimum=_converted(options.pop("minimum", None), kind),
                maximum=_converted(options.pop("maximum", None), kind),
                choices=None
                if choices is None
                else tuple(_converted(each, kind) for each in choices),
                **options,
            )
        )
    except ValueError as error:
        raise _at(statement, f"{name}: {error}") from None


def _consistent(declaration: Declaration) -> Declaration:
    if declaration.default is not None:
        _checked(declaration, declaration.default)
    return declaration


def _assignment(statement: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.value
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        return (target.id if isinstance(target, ast.Name) else None), statement.value
    return None, None


def _call_options(statement: ast.stmt, call: ast.Call) -> dict[str, Any]:
    if not (isinstance(call.func, ast.Name) and call.func.id == "parameter"):
        raise _at(statement, "only parameter(…) or a literal may stand here")
    if len(call.args) != 1:
        raise _at(statement, "parameter(…) takes one default, then named arguments")
    allowed = ("minimum", "maximum", "choices", "unit", "help", "kind")
    options = {"default": _constant(statement, call.args[0])}
    for argument in call.keywords:
        if argument.arg not in allowed:
            raise _at(
                statement, f"parameter() has no {argument.arg}{nearest(str(argument.arg), allowed)}"
            )
        options[argument.arg] = _constant(statement, argument.value)
    return options


def _constant(statement: ast.stmt, value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        raise _at(statement, "arguments must be literals, nothing that is computed") from None


def _kind_of(value: Any) -> str | None:
    return next((kind for kind, (_, type_) in _KINDS.items() if type(value) is type_), None)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _at(statement: ast.stmt, problem: str) -> UsageError:
    return UsageError(f"The parameters cell, line {statement.lineno}: {problem}.")


def _converted(value: Any, kind: str | None) -> Any:
    """A date, time or decimal from its text; anything else as it is. Raises `ValueError`."""
    if kind == "date" and isinstance(value, str):
        return date.fromisoformat(value)
    if kind == "datetime" and isinstance(value, str):
        return datetime.fromisoformat(value)
    if kind == "decimal" and isinstance(value, str | int):
        try:
            return Decimal(value)
        except InvalidOperation:
            raise ValueError(f"{value!r} is not a decimal number") from None
    return value


def _checked(declaration: Declaration, value: Any) -> Any:
    expected = f"expected {declaration.range_in_words()}"
    if value is None and declaration.optional:
        return None
    try:
        value = _converted(value, declaration.kind)
    except (ValueError, TypeError):
        raise ValueError(expected) from None
    if declaration.kind == "float" and type(value) is int:
        value = float(value)
    if type(value) is not _KINDS[declaration.kind][1] or not _is_plain(value):
        raise ValueError(expected)
    if declaration.choices is not None and value not in declaration.choices:
        raise ValueError(expected)
    try:
        too_small = declaration.minimum is not None and value < declaration.minimum
        too_great = declaration.maximum is not None and value > declaration.maximum
    except TypeError:
        raise ValueError(f"{expected}, with a time zone like the limits'") from None
    if too_small or too_great:
        raise ValueError(expected)
    return value


def _is_plain(value: Any) -> bool:
    """Whether a value can be written as a literal and read back the same."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Decimal):
        return value.is_finite()
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT_CHARACTERS and value.isprintable() | ("\n" in value)
    if isinstance(value, list):
        return all(_is_plain(part) for part in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(part) for name, part in value.items())
    if isinstance(value, datetime):
        return value.tzinfo is not None
    return isinstance(value, bool | int | date | None)


def _from_text(declaration: Declaration, text: str) -> Any:
    if declaration.optional and text.strip().lower() in ("none", "null", ""):
        return None
    try:
        if declaration.kind in ("int", "float"):
            return {"int": int, "float": float}[declaration.kind](text)
        if declaration.kind in ("list", "dict"):
            return json.loads(text)
    except ValueError:
        return text
    if declaration.kind == "bool" and text.strip().lower() in _TRUE + _FALSE:
        return text.strip().lower() in _TRUE
    return text


def _literal(value: Any) -> str:
    # A zone's own repr names its class, so a time is written by its offset from UTC.
    if isinstance(value, datetime):
        return f"datetime.datetime.fromisoformat({value.isoformat()!r})"
    return repr(value)


def _unknown(name: str, declared: list[str]) -> str:
    takes = f"it takes {', '.join(declared)}" if declared else "it takes none"
    return f"There is no parameter {_shown(name)}{nearest(name, declared) or '.'} The procedure declares its parameters: {takes}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
