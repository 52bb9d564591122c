"""The doctor: each fault gets words of its own, one part never harms another, and nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from fault_server import BlackHole, FaultServer, answer, refused_port, stall
from wordpress_site import WordPressSite

from runbook_lib.database import roles
from runbook_lib.database.connection import Database
from runbook_lib.database.ordinary_user import ordinary_user
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.doctor import PARTS, examine
from runbook_lib.health.probes.configuration import Configuration, probe_configuration
from runbook_lib.health.probes.database import probe_database
from runbook_lib.health.probes.login_failures import explain_login_failure
from runbook_lib.health.probes.network import reach_web
from runbook_lib.health.probes.openai import probe_openai
from runbook_lib.health.probes.wordpress import probe_wordpress
from runbook_lib.health.side_by_side import run_probes
from runbook_lib.settings import environment_without_callers

KEY = "sk-proj-canary0123456789"
SCHEMA = "public"
Role = Callable[..., str]


def checks_of(probe: Iterator[Check]) -> dict[str, Check]:
    """The checks by their step, e.g. `login`."""
    return {check.name.partition(".")[2]: check for check in probe}


def database_checks(url: str, schema: str = SCHEMA, **options: float) -> dict[str, Check]:
    return checks_of(probe_database(url, schema, **options))


def run_sql(database: Database, *statements: str) -> None:
    with database.transaction() as transaction:
        for statement in statements:
            transaction.run(statement)


def address(database: Database, **parts: Any) -> str:
    """The database's address with another `user`, `password`, `port` or `name`."""
    url = urlsplit(database.url)
    user = parts.get("user", url.username)
    password = quote(parts.get("password", url.password), safe="")
    port = parts.get("port", url.port)
    return f"postgresql://{user}:{password}@{url.hostname}:{port}/{parts.get('name', url.path[1:])}"


@pytest.fixture
def role(database: Database) -> Iterator[Role]:
    """Makes ordinary roles with the given options; gives the address with which such a role logs in."""
    made = []

    def make(options: str = "LOGIN") -> str:
        name = f"doctor_{uuid.uuid4().hex[:8]}"
        run_sql(database, f"CREATE ROLE {name} PASSWORD 'ordinary' {options}")
        made.append(name)
        return address(database, user=name, password="ordinary")

    yield make
    for name in made:
        run_sql(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def user_of(url: str) -> str:
    return str(urlsplit(url).username)


# the database, before the login


def test_database_in_order_is_told_so(database: Database) -> None:
    found = database_checks(database.url, database.schema)
    assert worst_verdict(found.values()) == "ok", [
        check for check in found.values() if check.verdict != "ok"
    ]
    expected = {
        "address",
        "connection",
        "protocol",
        "login",
        "version",
        "writable",
        "clock",
        "pooler",
    }
    assert expected | {"tables", "rights", "partitions", "default_partition"} <= found.keys()


def test_wrong_password_is_told_from_unknown_database(database: Database) -> None:
    wrong = database_checks(address(database, password="canary-wrong-password"))
    assert list(wrong)[-1] == "login"
    assert "password" in wrong["login"].message
    unknown = database_checks(address(database, name="nowhere"))
    assert list(unknown)[-1] == "database"
    assert "no database of this name" in unknown["database"].message


def test_refused_port_unknown_name_and_no_route_are_told_apart(database: Database) -> None:
    refused = database_checks(address(database, port=refused_port()))
    assert "nothing listens" in refused["connection"].message
    unknown = database_checks("postgresql://u:p@no-such-host.invalid/x")
    assert unknown["name"].verdict == "critical"
    assert "no-such-host.invalid" in unknown["name"].message
    assert "connection" not in unknown
    with BlackHole() as hole:
        silent = database_checks(f"postgresql://u:p@127.0.0.1:{hole.port}/x", patience_seconds=0.3)
    assert "neither yes nor no" in silent["connection"].message


def test_server_that_hangs_is_told_from_something_else_on_the_port() -> None:
    with FaultServer(stall) as server:
        hung = database_checks(f"postgresql://u:p@127.0.0.1:{server.port}/x", patience_seconds=0.3)
    assert "the server hangs" in hung["protocol"].message
    with FaultServer(_speaks_http_first) as server:
        foreign = database_checks(f"postgresql://u:p@127.0.0.1:{server.port}/x")
    assert "is not PostgreSQL" in foreign["protocol"].message


def _speaks_http_first(server: FaultServer, connection: socket.socket) -> None:
    connection.recv(8)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:p@host/x", "must start with postgresql://"),
        ("postgresql://u:canary/secret@host/x", "percent-encoded"),
        ("postgresql://u:p@host:port/x", "percent-encoded"),
    ],
)
def test_address_that_is_none_is_explained_without_its_password(url: str, words: str) -> None:
    found = database_checks(url)
    assert words in found["address"].message
    assert "canary" not in str(found["address"])


# the login: limits, rights to log in


def test_limits_of_role_and_database_are_told_apart(database: Database, role: Role) -> None:
    of_role = database_checks(role("LOGIN CONNECTION LIMIT 0"))
    assert "This role has as many connections" in of_role["limit"].message
    ordinary, name = role(), urlsplit(database.url).path[1:]
    run_sql(database, f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    of_database = database_checks(ordinary)
    assert "This database has as many connections" in of_database["limit"].message


def test_role_that_may_not_log_in_or_not_into_this_database_is_told_so(
    database: Database, role: Role
) -> None:
    assert "may not log in" in database_checks(role("NOLOGIN"))["login"].message
    ordinary, name = role(), urlsplit(database.url).path[1:]
    run_sql(database, f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    assert "not into this database" in database_checks(ordinary)["database"].message


SERVERS_WORDS = {
    'FATAL:  sorry, too many clients already': "no connection left for ordinary roles",
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute": "no connection left",
    "FATAL:  no more connections allowed (max_client_conn)": "The pooler in front",
    "FATAL:  MaxClientsInSessionMode: max clients reached": "The pooler in front",
    "FATAL: Max client connections reached": "The pooler in front",
    "FATAL:  query_wait_timeout": "no free server connection",
    "FATAL:  Tenant or user not found": "Supabase pooler",
    'FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "u", database "d", no encryption': "encrypted connections only",
    'FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "u", database "d", SSL off': "encrypted connections only",
    'FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "u", database "d", SSL encryption': "does not let this user",
    "server does not support SSL, but SSL was required": "the server has none",
    "SSL error: certificate verify failed": "not one that this machine trusts",
    'root certificate file "/root/.postgresql/root.crt" does not exist': "authority's file is missing",
    "FATAL:  unsupported startup parameter: options": "does not take a parameter",
    "FATAL:  the database system is starting up": "starting, or recovering",
    "FATAL:  the database system is shutting down": "shutting down",
    "fe_sendauth: no password supplied": "wants a password",
    "timeout expired": "said nothing in time",
    "server closed the connection unexpectedly": "ended the connection during the login",
    'FATAL:  role "u" does not exist': "no such user",
    'FATAL:  Peer authentication failed for user "u"': "other means than a password",
    "FATAL:  password authentication failed": "password of this user is wrong",
    "FATAL:  SASL authentication failed": "password of this user is wrong",
    'FATAL:  no such database: x': "no database of this name",
}  # fmt: skip


@pytest.mark.parametrize("text", SERVERS_WORDS)
def test_each_text_of_a_server_or_pooler_has_a_meaning_of_its_own(text: str) -> None:
    failure = explain_login_failure(f'connection to server at "h", port 5432 failed: {text}')
    assert SERVERS_WORDS[text] in failure.meaning
    assert failure.advice


def test_a_text_that_nobody_knows_is_shown_as_it_is() -> None:
    assert "server's own words" in explain_login_failure("FATAL:  something new").advice


# the database, inside


def test_missing_rights_are_named_table_by_table(database: Database, role: Role) -> None:
    url = role()
    tables = ", ".join([*roles.WORKER, "runbook_schema_version"])
    run_sql(
        database,
        f"GRANT USAGE ON SCHEMA {database.schema} TO {user_of(url)}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {user_of(url)}",
        "REVOKE EXECUTE ON FUNCTION make_job_runs_partitions(integer) FROM PUBLIC",
    )
    found = database_checks(url, database.schema)
    assert found["rights"].verdict == "ok"
    assert found["partition_function"].verdict == "warning"
    run_sql(database, f"REVOKE UPDATE ON content_jobs FROM {user_of(url)}")
    found = database_checks(url, database.schema)
    assert found["rights"].verdict == "critical"
    assert "UPDATE on content_jobs" in found["rights"].message
    assert "job_runs" not in found["rights"].message


def test_rows_hidden_by_row_security_are_told(database: Database, role: Role) -> None:
    url = role()
    run_sql(
        database,
        f"GRANT USAGE ON SCHEMA {database.schema} TO {user_of(url)}",
        f"GRANT SELECT ON content_jobs TO {user_of(url)}",
        "ALTER TABLE content_jobs ENABLE ROW LEVEL SECURITY",
    )
    assert (
        "an empty queue proves nothing"
        in database_checks(url, database.schema)["row_security"].message
    )


def test_read_only_role_is_told_who_set_it(database: Database, role: Role) -> None:
    url = role()
    run_sql(database, f"ALTER ROLE {user_of(url)} SET default_transaction_read_only = on")
    found = database_checks(url, database.schema)
    assert found["writable"].verdict == "critical"
    assert "user" in found["writable"].message


def test_rows_in_the_default_partition_are_counted(database: Database) -> None:
    run_sql(
        database,
        "INSERT INTO job_runs (job_id, attempt, status, execution_time) "
        "SELECT gen_random_uuid(), 1, 'completed', '2020-01-01' FROM generate_series(1, 3)",
    )
    check = database_checks(database.url, database.schema)["default_partition"]
    assert (check.verdict, check.value, check.unit) == ("warning", 3, "rows")


def test_tables_that_are_missing_or_old_lead_to_migrate(database: Database) -> None:
    elsewhere = database_checks(database.url, "nowhere_to_be_found")
    assert "There is no schema" in elsewhere["schema"].message
    run_sql(database, "UPDATE runbook_schema_version SET version_num = '0000'")
    old = database_checks(database.url, database.schema)["tables"]
    assert old.verdict == "critical"
    assert old.next == "Run `runbook db migrate`."


def test_nearly_full_role_is_a_warning_with_its_figures(database: Database, role: Role) -> None:
    check = database_checks(role("LOGIN CONNECTION LIMIT 1"), database.schema)[
        "connections_of_role"
    ]
    assert (check.verdict, check.value) == ("warning", 1)


def test_examination_of_a_database_changes_nothing_in_it(database: Database) -> None:
    with database.transaction() as transaction:
        before = transaction.rows(
            "SELECT relname, pg_relation_filenode(oid) FROM pg_class ORDER BY oid"
        )
        began = transaction.value("SELECT txid_snapshot_xmax(txid_current_snapshot())")
    database_checks(database.url, database.schema)
    with database.transaction() as transaction:
        after = transaction.rows(
            "SELECT relname, pg_relation_filenode(oid) FROM pg_class ORDER BY oid"
        )
        ended = transaction.value("SELECT txid_snapshot_xmax(txid_current_snapshot())")
    assert before == after
    assert ended >= began


# a web address: name, connection, certificate


def test_certificate_that_nobody_signed_is_refused_with_the_reason(tmp_path: Path) -> None:
    with _tls_server(tmp_path) as port:
        found = checks_of(reach_web("wordpress", f"https://127.0.0.1:{port}", "WORDPRESS_URL"))
    assert found["certificate"].verdict == "critical"
    assert "self-signed" in found["certificate"].message
    assert "never switched off" in str(found["certificate"].next)


def test_certificate_that_ends_soon_is_a_warning_with_its_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _tls_server(tmp_path) as port:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
        found = checks_of(reach_web("wordpress", f"https://127.0.0.1:{port}", "WORDPRESS_URL"))
    assert (found["certificate"].verdict, found["certificate"].unit) == ("warning", "days")
    assert 0 <= found["certificate"].value <= 1


def test_plain_http_server_behind_https_is_told_from_a_server_that_hangs() -> None:
    with FaultServer(_speaks_http_first) as server:
        plain = checks_of(
            reach_web("openai", f"https://127.0.0.1:{server.port}", "OPENAI_BASE_URL")
        )
    assert "does not speak TLS" in plain["certificate"].message


def _tls_server(directory: Path) -> Any:
    subprocess.run(
        [*["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=x", "-addext"], "subjectAltName=IP:127.0.0.1", "-keyout", str(directory / "key.pem"), "-out", str(directory / "certificate.pem")],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    return _Serving(context)


class _Serving:
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self._listener.getsockname()[1])

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(1)
            except ssl.SSLError:
                continue
            except OSError:
                return

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


# OpenAI


def openai_checks(status: int, body: Any, path: str = "/v1", **headers: str) -> dict[str, Check]:
    content = body if isinstance(body, str) else json.dumps(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", f"Content-Type: {kind}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with FaultServer(answer("\r\n".join([*lines, "", content]).encode())) as server:
        found = checks_of(probe_openai(f"{server.url}{path}", lambda: KEY, "gpt-4o-mini"))
        assert [line.split(b" ")[0] for line in server.requests] == [b"GET"]
    assert KEY not in str([check.masked() for check in found.values()])
    return found


def _error(message: str, **details: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **details}}


def test_key_that_is_accepted_with_its_model_is_well() -> None:
    found = openai_checks(200, {"data": [{"id": "gpt-4o-mini"}, {"id": "other"}]})
    assert worst_verdict(found.values()) == "ok"
    assert "credit" in str(found["key"].does_not_prove)


@pytest.mark.parametrize(
    ("status", "body", "step", "verdict", "words"),
    [
        (401, _error("Incorrect API key provided: sk-proj-****89.", code="invalid_api_key"), "key", "critical", "does not accept the key"),
        (401, _error("Authentication Error", code="401"), "key", "critical", "The gateway in between does not accept"),
        (400, _error("No connected db.", code="no_db_connection"), "key", "critical", "The gateway in between does not accept"),
        (403, _error("Country, region, or territory not supported", code="unsupported_country_region_territory"), "key", "critical", "not allowed"),
        (403, _error("Missing scopes: api.model.read"), "key", "warning", "restricted"),
        (429, _error("You exceeded your current quota", code="insufficient_quota"), "quota", "critical", "no credit"),
        (429, _error("x", code="project_spend_limit_exceeded"), "quota", "critical", "spending limit"),
        (429, _error("Rate limit reached", code="rate_limit_exceeded"), "rate", "warning", "Too many requests"),
        (503, _error("The server is overloaded"), "api", "critical", "trouble of its own"),
        (200, {"data": [{"id": "other"}]}, "model", "warning", "is not among the 1"),
        (200, "<html><title>Sign in to the network</title></html>", "api", "critical", "not an OpenAI-compatible API"),
        (404, "<html>not here</html>", "api", "critical", "not an OpenAI-compatible API"),
        (502, "<html>bad gateway</html>", "api", "critical", "is down"),
        (200, {"error": {}}, "api", "critical", "refuses the list"),
        (200, [1, 2], "api", "critical", "not an OpenAI-compatible API"),
    ],
)  # fmt: skip
def test_each_refusal_of_openai_has_words_of_its_own(
    status: int, body: Any, step: str, verdict: str, words: str
) -> None:
    check = openai_checks(status, body)[step]
    assert check.verdict == verdict
    assert words in check.message
    assert check.next


def test_openai_address_without_v1_or_with_a_redirect_names_the_right_one() -> None:
    assert "try OPENAI_BASE_URL=" in str(openai_checks(404, "nothing", path="")["api"].next)
    moved = openai_checks(301, "moved", Location="https://gateway.example/v1/models")
    assert moved["api"].next == "Set OPENAI_BASE_URL=https://gateway.example/v1"


# WordPress: a real one


def wordpress_checks(site: WordPressSite, login: str, **options: Any) -> dict[str, Check]:
    password = options.pop("password", site.passwords[login])
    url = options.pop("url", site.url)
    return checks_of(probe_wordpress(url, login, lambda: password, **options))


def test_site_user_and_category_in_order_are_told_so(wordpress: WordPressSite) -> None:
    found = wordpress_checks(wordpress, "author", fallback_category="uncategorized")
    assert worst_verdict(found.values()) == "ok"
    assert list(found) == [
        "connection",
        "rest_api",
        "response_time",
        "login",
        "permission",
        "categories",
        "application_password",
    ]
    assert wordpress.requests() == [
        line for line in wordpress.requests() if line.startswith("GET ")
    ]


def test_wrong_password_ends_at_the_login(wordpress: WordPressSite) -> None:
    found = wordpress_checks(wordpress, "author", password="abcd EFGH ijkl MNOP qrst UVWX")
    assert list(found)[-1] == "login"
    assert found["login"].value == 401
    assert "application password" in str(found["login"].next)
    assert "resume" not in str(found["login"].next)


def test_user_that_may_write_but_not_publish_is_told_which_right_is_missing(
    wordpress: WordPressSite,
) -> None:
    check = wordpress_checks(wordpress, "contributor")["permission"]
    assert (check.verdict, check.value) == ("critical", ["publish_posts"])
    assert "may not publish posts" in check.message
    as_draft = wordpress_checks(wordpress, "contributor", post_status="draft")["permission"]
    assert as_draft.verdict == "ok"
    both = wordpress_checks(wordpress, "subscriber", post_status="draft")["permission"]
    assert "may not write posts" in both.message


def test_fallback_category_that_the_site_does_not_have_is_told(wordpress: WordPressSite) -> None:
    check = wordpress_checks(wordpress, "author", fallback_category="No such thing")["categories"]
    assert check.verdict == "critical"


def test_plain_permalinks_are_found_and_are_no_fault(wordpress: WordPressSite) -> None:
    wordpress.variants("plain_permalinks")
    found = wordpress_checks(wordpress, "author")
    assert "plain permalinks" in found["rest_api"].message
    assert found["login"].verdict == "ok"


def test_site_variants_each_have_words_of_their_own(wordpress: WordPressSite) -> None:
    wordpress.variants("no_application_passwords")
    assert (
        "no application passwords"
        in wordpress_checks(wordpress, "author")["application_passwords"].message
    )
    wordpress.variants("rest_forbidden")
    assert "restricted" in wordpress_checks(wordpress, "author")["rest_api"].message
    wordpress.variants("fatal_error")
    assert "server error" in wordpress_checks(wordpress, "author")["rest_api"].message
    wordpress.variants()
    with wordpress.maintenance():
        assert wordpress_checks(wordpress, "author")["rest_api"].value == 503


def test_redirect_and_wrong_path_name_the_right_address(wordpress: WordPressSite) -> None:
    with FaultServer(_redirect_to(wordpress.url)) as server:
        moved = wordpress_checks(wordpress, "author", url=server.url)
    assert moved["rest_api"].verdict == "critical"
    assert moved["rest_api"].next == f"Set WORDPRESS_URL={wordpress.url}"


def _redirect_to(url: str) -> Callable[[FaultServer, socket.socket], None]:
    def serve(server: FaultServer, connection: socket.socket) -> None:
        while head := server.read_request(connection):
            path = head.split(b" ")[1].decode()
            connection.sendall(
                f"HTTP/1.1 301 Moved\r\nLocation: {url}{path}\r\nContent-Length: 0\r\n\r\n".encode()
            )

    return serve


# the settings


def configuration_of(tmp_path: Path, content: str = "", **environment: str) -> Configuration:
    file = tmp_path / ".env"
    file.write_text(content)
    file.chmod(0o600)
    return Configuration(environment, file)


def settings_checks(configuration: Configuration) -> dict[str, Check]:
    return checks_of(probe_configuration(configuration))


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    kept = environment_without_callers(tmp_path)
    for name in set(os.environ) - set(kept):
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "home"))
    return tmp_path


def test_half_configured_provider_is_named_and_exits_as_wrong_use(clean_environment: Path) -> None:
    configuration = configuration_of(clean_environment, "WORDPRESS_URL=https://site.example\n")
    found = settings_checks(configuration)
    assert "half configured" in found["values"].message
    assert "WORDPRESS_APP_PASSWORD" in found["values"].message


def test_misspelt_name_leads_to_the_nearest_right_one(clean_environment: Path) -> None:
    for wrong, right in {
        "RUNBOOK_CONCURENCY": "RUNBOOK_CONCURRENCY",
        "WORDPRESS_APPLICATION_PASSWORD": "WORDPRESS_APP_PASSWORD",
        "DATABSE_URL": "DATABASE_URL",
        "OPENAI_APIKEY": "OPENAI_API_KEY",
    }.items():
        check = settings_checks(configuration_of(clean_environment, f"{wrong}=1\n"))["unknown_name"]
        assert (check.value, check.next) == (wrong, f"Did you mean {right}?")
    assert "unknown_name" not in settings_checks(configuration_of(clean_environment, PATH="/bin"))


def test_stray_characters_around_a_key_are_told_without_the_key(clean_environment: Path) -> None:
    for value in (f" {KEY}", f"{KEY}\n", f'"{KEY}"'):
        configuration = configuration_of(clean_environment, OPENAI_API_KEY=value)
        check = settings_checks(configuration)["stray_characters"]
        assert check.message.startswith("OPENAI_API_KEY in the environment")
        assert KEY not in str(check)


def test_file_overruled_by_the_environment_and_readable_by_others_is_told(
    clean_environment: Path,
) -> None:
    configuration = configuration_of(
        clean_environment, f"OPENAI_API_KEY={KEY}\n", OPENAI_API_KEY="other"
    )
    (clean_environment / ".env").chmod(0o644)
    found = settings_checks(configuration)
    assert found["overruled"].value == "OPENAI_API_KEY"
    assert found["file_rights"].value == "644"
    assert KEY not in str(found)


def test_address_of_the_rest_api_or_the_login_page_is_corrected(clean_environment: Path) -> None:
    configuration = configuration_of(
        clean_environment,
        "WORDPRESS_URL=https://site.example/wp-json\nWORDPRESS_USER=u\nWORDPRESS_APP_PASSWORD=abcdefgh\nRUNBOOK_SANDBOX=openai\n",
    )
    assert (
        settings_checks(configuration)["wordpress_url"].next
        == "Set WORDPRESS_URL=https://site.example"
    )


# all parts together


def test_part_that_hangs_is_given_up_and_harms_no_other() -> None:
    released = threading.Event()

    def hangs() -> Iterator[Check]:
        yield Check("openai.connection", "ok", "Connected.")
        released.wait(60)

    def fails() -> Iterator[Check]:
        raise RuntimeError("unforeseen")
        yield

    def works() -> Iterator[Check]:
        yield Check("settings.values", "ok", "Fine.")

    started = time.monotonic()
    found = run_probes({"openai": hangs, "wordpress": fails, "settings": works}, 0.5)
    released.set()
    assert time.monotonic() - started < 30
    assert [check.name for check in found["openai"]] == ["openai.connection", "openai.deadline"]
    assert "hung after openai.connection" in found["openai"][-1].message
    assert found["wordpress"][0].verdict == "not_enough_data"
    assert found["settings"][0].verdict == "ok"


def test_nothing_configured_touches_nothing(clean_environment: Path) -> None:
    configuration = Configuration({}, None)
    examination = examine(configuration)
    assert examination.exit_status == 0
    assert {check.part for check in examination.checks} == set(PARTS) - {"mapping"}
    assert [check.name for check in examination.of_part("openai")] == ["openai.sandbox"]
    assert "not running now" in examination.of_part("database")[0].message
    assert not (clean_environment / "home").exists()


def test_verdict_is_that_of_the_worst_answer() -> None:
    def check(verdict: Any) -> Check:
        return Check("part.step", verdict, "")

    assert worst_verdict([check("ok"), check("warning")]) == "warning"
    assert worst_verdict([check("not_allowed"), check("ok")]) == "ok"
    assert worst_verdict([check("critical"), check("not_enough_data")]) == "critical"
    assert worst_verdict([check("not_enough_data")]) == "not_enough_data"


# the command


def run_doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from runbook_lib.cli import main; main()", "doctor", *arguments],
        env={**environment_without_callers(Path("/nonexistent/home")), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_command_answers_with_checks_and_the_status_of_the_contract(
    database: Database, tmp_path: Path
) -> None:
    home = {"RUNBOOK_HOME": str(tmp_path / "home")}
    well = run_doctor(
        "--json", DATABASE_URL=database.url, RUNBOOK_DATABASE_SCHEMA=database.schema, **home
    )
    answer_of_it = json.loads(well.stdout)
    assert (well.returncode, answer_of_it["verdict"]) == (0, "ok"), well.stdout + well.stderr
    keys = {
        "name",
        "verdict",
        "message",
        "value",
        "unit",
        "threshold",
        "source",
        "does_not_prove",
        "next",
        "procedure",
        "parameters",
        "details",
    }
    assert all(set(check) == keys for check in answer_of_it["checks"])
    ill = run_doctor(DATABASE_URL=address(database, password="canary-wrong-password"), **home)
    assert ill.returncode == 1
    assert "The password of this user is wrong" in ill.stdout
    wrong = run_doctor(WORDPRESS_URL="https://site.example", **home)
    assert wrong.returncode == 2
    assert "canary" not in ill.stdout + ill.stderr


def test_command_shows_no_secret_wherever_it_stands(tmp_path: Path) -> None:
    with FaultServer(answer(_echoing_refusal())) as server:
        told = run_doctor(
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=server.url,
            WORDPRESS_URL=server.url,
            WORDPRESS_USER="bot",
            WORDPRESS_APP_PASSWORD="cAn4 Ry5w Ord6 Pre7 Ss8k Ey9z",
            DATABASE_URL=f"postgresql://u:canary-password@127.0.0.1:{refused_port()}/x",
            RUNBOOK_HOME=str(tmp_path),
        )
    assert told.returncode == 1, told.stderr
    for secret in (KEY, "Ry5w", "canary-password", "Traceback"):
        assert secret not in told.stdout + told.stderr


def test_check_goes_out_masked_and_on_one_line_whatever_stands_in_it() -> None:
    check = Check("part.step", "ok", f"It said {KEY}\nand \x1b[31mred", next=KEY)
    assert check.masked()["message"] == "It said [masked] and red"
    assert check.masked()["next"] == "[masked]"


def _echoing_refusal() -> bytes:
    body = json.dumps({"error": {"message": f"no {KEY}, cAn4Ry5wOrd6Pre7Ss8kEy9z", "code": "x"}})
    return f"HTTP/1.1 401 X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_ssl_request_is_the_one_that_the_protocol_names() -> None:
    """The first eight bytes that the doctor sends are an SSLRequest, which commits to nothing."""
    seen = []

    def note(server: FaultServer, connection: socket.socket) -> None:
        seen.append(struct.unpack("!ii", connection.recv(8)))

    with FaultServer(note) as server:
        database_checks(f"postgresql://u:p@127.0.0.1:{server.port}/x")
    assert seen[0] == (8, 80877103)


# a pooler in between


@contextmanager
def pgbouncer(database: Database, **options: Any) -> Iterator[str]:
    """Debian's PgBouncer in front of the test's database; gives the address through it."""
    if (program := shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        pytest.skip("pgbouncer is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    account, url, port = ordinary_user(folder), urlsplit(database.url), refused_port()
    (folder / "users").write_text(f'"{url.username}" "{url.password}"\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": folder / "users",
        "logfile": folder / "log",
        **options,
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    server = f"* = host={url.hostname} port={url.port}"
    (folder / "ini").write_text("\n".join(["[databases]", server, "[pgbouncer]", *lines]))
    account.give(folder)
    process = subprocess.Popen(
        [*account.prefix, program, "-q", str(folder / "ini")],
        **account.options(),  # type: ignore[call-overload]
    )
    try:
        yield address(database, port=_answering(port, folder / "log"))
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def _answering(port: int, log: Path) -> int:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return port
    raise AssertionError(log.read_text() if log.exists() else "pgbouncer did not start")


@pytest.mark.parametrize("pool_size", [1, 5])
def test_pooler_in_transaction_mode_is_recognised_and_all_is_well_through_it(
    database: Database, pool_size: int
) -> None:
    options = {"pool_mode": "transaction", "default_pool_size": pool_size}
    with pgbouncer(database, **options) as url:
        found = database_checks(url, database.schema)
    assert found["pooler"].value == "transaction"
    assert worst_verdict(found.values()) == "ok"


def test_pooler_that_takes_its_servers_in_turn_is_recognised_too(database: Database) -> None:
    """The second client then gets another server process, and the first one moves."""
    with pgbouncer(database, pool_mode="transaction", server_round_robin=1) as url:
        through = Database(url, schema=database.schema)
        with through.transaction() as one, through.transaction() as two:
            assert one.value("SELECT pg_backend_pid()") != two.value("SELECT pg_backend_pid()")
        assert database_checks(url, database.schema)["pooler"].value == "transaction"


def test_pooler_in_session_mode_is_recognised(database: Database) -> None:
    with pgbouncer(database, pool_mode="session") as url:
        assert database_checks(url, database.schema)["pooler"].value == "session"


def test_pooler_that_is_full_is_told_from_a_server_that_is(database: Database) -> None:
    options = {"pool_mode": "session", "default_pool_size": 1, "query_wait_timeout": 1}
    with pgbouncer(database, **options) as url:
        check = database_checks(url, database.schema)["pooler"]
    assert (check.value, check.verdict) == ("full", "warning")
    with pgbouncer(database, max_client_conn=0) as url:
        assert "The pooler in front" in database_checks(url)["limit"].message
