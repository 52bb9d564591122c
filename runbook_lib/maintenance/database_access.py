"""Database roles against the least that they need, and what Supabase's Data API reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runbook_lib.database import Database, roles, schema
from runbook_lib.database.statements import load
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance.access_records import Part

_SQL = load("roles")
_VERSION_TABLE = "runbook_schema_version"
_BREACH = "emergency/security_breach"
_POWERS = {
    "is_superuser": "superuser",
    "passes_row_security": "passes row security",
    "makes_roles": "makes roles",
    "makes_databases": "makes databases",
    "replicates": "replicates",
}


def role_rights(sources: Sources, *, embedded: bool) -> Part:
    """What each role may do with our tables, and which purpose that fits."""
    database = sources.bookkeeping
    tables = [*schema.tables(), _VERSION_TABLE]
    with database.transaction(read_only=True) as transaction:
        found = transaction.rows(
            _SQL["rights_on_tables"], schemas=[database.schema] * len(tables), tables=tables
        )
        powerful = transaction.rows(_SQL["powerful_roles"])
    rows = [_role_row(role, list(rights)) for role, rights in _by_role(found).items()]
    rows += [_power_row(row) for row in powerful if row.is_superuser]
    return Part(_rights_check(rows, powerful, embedded), rows)


def _by_role(found: Iterable[Any]) -> dict[str, list[Any]]:
    rights: dict[str, list[Any]] = {}
    for row in found:
        rights.setdefault(row.role, []).append(row)
    return rights


def _role_row(role: str, rights: Sequence[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"role": role, "logs_in": rights[0].may_log_in, "fits": "owner", "beyond": None}  # fmt: skip
    if any(each.owns for each in rights):
        return row
    has = {each.table_name: frozenset(each.privileges) for each in rights}
    has[_VERSION_TABLE] = has.get(_VERSION_TABLE, frozenset()) - {"SELECT"}
    if role == "PUBLIC":
        return {**row, "fits": "everybody", "beyond": _shown(has)}
    purpose = roles.purpose_of({name: given for name, given in has.items() if given})
    beyond = None if purpose else _shown(roles.beyond(has, "operator"))
    return {**row, "fits": purpose or "more than an operator", "beyond": beyond}


def _power_row(row: Any) -> dict[str, Any]:
    powers = [words for name, words in _POWERS.items() if getattr(row, name)]
    return {"role": row.role, "logs_in": True, "fits": "superuser", "beyond": ", ".join(powers[1:]) or None}  # fmt: skip


def _shown(rights: Mapping[str, frozenset[str]]) -> str | None:
    by_right: dict[str, list[str]] = {}
    for table, given in sorted(rights.items()):
        for each in sorted(given):
            by_right.setdefault(each, []).append(table)
    told = [
        f"{right} on {', '.join(tables) if len(tables) <= 3 else f'{len(tables)} tables'}"
        for right, tables in by_right.items()
    ]
    return "; ".join(told) or None


def _rights_check(rows: Sequence[dict[str, Any]], powerful: Sequence[Any], embedded: bool) -> Check:
    everybody = [row for row in rows if row["role"] == "PUBLIC" and row["beyond"]]
    wide = [row["role"] for row in rows if row["fits"] == "more than an operator"]
    ours = next((row for row in powerful if row.is_ours and row.is_superuser), None)
    check = Check(
        "access.roles", "ok", f"{len(rows)} roles reach our tables, each within what it is for.", len(wide), "roles", 0,
        "roles.rights_on_tables", does_not_prove="who knows the passwords of these roles",
    )  # fmt: skip
    told: list[str] = []
    verdict: Verdict = "ok"
    advice: str | None = None
    if wide:
        told.append(f"More than an operator needs: {', '.join(wide[:5])}.")
        verdict, advice = "warning", f"`runbook db grants {wide[0]} --as operator` prints what takes the rest away."  # fmt: skip
    if ours and not embedded:
        told.append(f"The workbench itself connects as the superuser {ours.role}.")
        verdict, advice = "warning", advice or "`runbook db grants ROLE --as operator` makes a role for it."  # fmt: skip
    if everybody:
        told.append(f"Everybody may {everybody[0]['beyond']}.")
        verdict, advice = "critical", "REVOKE ALL ON these tables FROM PUBLIC, as their owner."
    if not told:
        return check
    return Check(
        check.name, verdict, " ".join(told), check.value, check.unit, 0, check.source,
        check.does_not_prove, advice, _BREACH if everybody else None,
    )  # fmt: skip


def exposure(sources: Sources) -> Part:
    """What the roles of Supabase's Data API may do with our tables, and with a pipeline's that is not ours."""
    places = [(sources.bookkeeping, [(sources.bookkeeping.schema, name) for name in schema.tables()])]  # fmt: skip
    if sources.mapping is not None:
        places.append((sources.pipeline, [(each.schema, each.table) for each in sources.mapping.tables]))  # fmt: skip
    rows: list[dict[str, Any]] = []
    has_api = False
    for database, tables in places:
        found, functions = _exposed(database, tables)
        has_api = has_api or any(row.api_roles for row in found)
        rows += [
            {"what": f"{row.schema_name}.{row.table_name}", "reaches": ", ".join(row.privileges) or "nothing",
             "row_security": row.row_security, "policies": row.policies, "open": _open(row)}
            for row in found if row.privileges and row.reaches_schema
        ]  # fmt: skip
        rows += [
            {"what": f"function {row.function_name}", "reaches": row.roles, "row_security": None, "policies": None, "open": True}
            for row in functions if database is sources.bookkeeping
        ]  # fmt: skip
    return Part(_exposure_check(rows, has_api), rows)


def _exposed(database: Database, tables: Sequence[tuple[str, str]]) -> tuple[list[Any], list[Any]]:
    with database.transaction(read_only=True) as transaction:
        found = transaction.rows(
            _SQL["data_api_exposure"],
            schemas=[schema_name for schema_name, _ in tables], tables=[name for _, name in tables],
        )  # fmt: skip
        functions = transaction.rows(_SQL["functions_for_data_api"], schema=database.schema)
    return found, functions


def _open(row: Any) -> bool:
    return not row.row_security or row.policies > 0


def _exposure_check(rows: Sequence[dict[str, Any]], has_api: bool) -> Check:
    name, source = "access.data_api", "roles.data_api_exposure"
    if not has_api:
        return Check(name, "ok", "There is no Data API here: the roles anon and authenticated do not exist.", 0, "tables", 0, source)  # fmt: skip
    wide = [row["what"] for row in rows if row["open"]]
    if wide:
        return Check(
            name, "critical", f"The Data API reaches {', '.join(wide[:4])}{' …' if len(wide) > 4 else ''}: whoever has the public key may read or write there.",
            len(wide), "tables and functions", 0, source, next="REVOKE ALL ON it FROM anon, authenticated; and turn row-level security on.", procedure=_BREACH,
        )  # fmt: skip
    if rows:
        return Check(
            name, "warning", f"anon or authenticated have rights on {len(rows)} tables; only row-level security, which lets nobody through, is between.",
            len(rows), "tables", 0, source, next="REVOKE ALL ON them FROM anon, authenticated.",
        )  # fmt: skip
    return Check(name, "ok", "The Data API reaches none of these tables.", 0, "tables", 0, source)
