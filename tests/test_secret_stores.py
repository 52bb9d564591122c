"""The stores: Supabase Vault with its traps, and the secrets of Edge Functions, which show digests only."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import pytest
from conftest import Server

from runbook_lib.credentials.store import Credentials
from runbook_lib.credentials.vault import Vault, VaultSource
from runbook_lib.database import Database
from runbook_lib.errors import ConfigurationError, CouldNotBeDone
from runbook_lib.maintenance.function_secrets import FunctionSecrets
from runbook_lib.maintenance.rotation import Rotation
from runbook_lib.maintenance.secret_stores import FunctionStore, store_of
from runbook_lib.settings import Settings

SECRET, OTHER = "sk-kept-in-the-vault-0001", "sk-kept-in-the-vault-0002"
# The interface of Vault 0.3.1 as it was measured, its habits included; "encrypted" is base64 of the reversed value.
VAULT = """
CREATE SCHEMA vault;
CREATE TABLE vault.secrets (
    id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY, name text, description text NOT NULL DEFAULT '',
    secret text NOT NULL, key_id uuid, nonce bytea,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX secrets_name_idx ON vault.secrets (name) WHERE name IS NOT NULL;
CREATE FUNCTION vault._crypto_aead_det_decrypt(message bytea) RETURNS text LANGUAGE sql
    AS $$ SELECT reverse(convert_from(message, 'utf8')) $$;
CREATE VIEW vault.decrypted_secrets AS
    SELECT s.id, s.name, s.description, s.secret,
        vault._crypto_aead_det_decrypt(decode(s.secret, 'base64')) AS decrypted_secret,
        s.key_id, s.nonce, s.created_at, s.updated_at
    FROM vault.secrets AS s;
CREATE FUNCTION vault.create_secret(new_secret text, new_name text DEFAULT NULL, new_description text DEFAULT '', new_key_id uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE rec record;
BEGIN
    INSERT INTO vault.secrets (secret, name, description) VALUES (new_secret, new_name, new_description) RETURNING * INTO rec;
    UPDATE vault.secrets SET secret = encode(convert_to(reverse(new_secret), 'utf8'), 'base64') WHERE id = rec.id;
    RETURN rec.id;
END $$;
CREATE FUNCTION vault.update_secret(secret_id uuid, new_secret text DEFAULT NULL, new_name text DEFAULT NULL, new_description text DEFAULT NULL, new_key_id uuid DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
    UPDATE vault.secrets SET secret = coalesce(encode(convert_to(reverse(new_secret), 'utf8'), 'base64'), secret),
        name = coalesce(new_name, name), updated_at = clock_timestamp()
    WHERE id = secret_id
$$;
"""


@pytest.fixture
def vault(database: Database) -> Vault:
    with database.transaction() as transaction:
        transaction.run(VAULT.replace("%", "%%"))
    return Vault(database)


def run(database: Database, statement: str) -> list[object]:
    with database.transaction() as transaction:
        return transaction.rows(statement)


def test_the_first_value_is_created_and_the_next_one_updates_it(
    vault: Vault, database: Database
) -> None:
    assert vault.write("OPENAI_API_KEY", SECRET) is True
    before = vault.entries()["OPENAI_API_KEY"].updated_at
    assert vault.write("OPENAI_API_KEY", OTHER) is False
    assert vault.value("OPENAI_API_KEY") == OTHER
    assert vault.entries()["OPENAI_API_KEY"].updated_at > before
    assert len(run(database, "SELECT name FROM vault.secrets")) == 1


def test_an_update_that_does_nothing_is_noticed_and_nothing_is_kept(
    vault: Vault, database: Database
) -> None:
    """As `update_secret` of an id that does not exist: it succeeds."""
    vault.write("OPENAI_API_KEY", SECRET)
    run(database, "CREATE OR REPLACE FUNCTION vault.update_secret(secret_id uuid, new_secret text DEFAULT NULL, new_name text DEFAULT NULL, new_description text DEFAULT NULL, new_key_id uuid DEFAULT NULL) RETURNS void LANGUAGE sql AS ''")  # fmt: skip
    with pytest.raises(CouldNotBeDone, match="something else was read back") as refused:
        vault.write("OPENAI_API_KEY", OTHER)
    assert OTHER not in str(refused.value)
    assert vault.value("OPENAI_API_KEY") == SECRET


def test_a_row_that_was_inserted_plainly_breaks_no_other(vault: Vault, database: Database) -> None:
    vault.write("OPENAI_API_KEY", SECRET)
    run(database, "INSERT INTO vault.secrets (name, secret) VALUES ('WORDPRESS_APP_PASSWORD', 'not base64!')")  # fmt: skip
    with pytest.raises(psycopg2.DataError):
        run(database, "SELECT * FROM vault.decrypted_secrets")
    assert vault.value("OPENAI_API_KEY") == SECRET
    assert set(vault.entries()) == {"OPENAI_API_KEY", "WORDPRESS_APP_PASSWORD"}
    with pytest.raises(CouldNotBeDone, match="put in by a plain INSERT") as refused:
        vault.value("WORDPRESS_APP_PASSWORD")
    assert "not base64" not in str(refused.value)
    settings = Settings(_env_file=None, database_url=database.url, runbook_secret_store="vault")
    assert VaultSource(settings).read()["OPENAI_API_KEY"].get_secret_value() == SECRET


def test_no_statement_holds_the_value(vault: Vault, server: Server, database: Database) -> None:
    """Logged statements and their parameters are where a secret is found years later."""
    name = database.address.rsplit("/", 1)[1]
    server.execute("ALTER DATABASE {} SET log_statement = 'all'", name)
    server.execute("ALTER DATABASE {} SET log_min_duration_statement = 0", name)
    vault.write("OPENAI_API_KEY", SECRET)
    vault.write("OPENAI_API_KEY", OTHER)
    log = server.log()
    assert "vault.update_secret(" in log
    assert SECRET not in log
    assert OTHER not in log


def test_what_is_missing_is_said(database: Database, vault: Vault, server: Server) -> None:
    with pytest.raises(CouldNotBeDone, match="has no Vault"):
        Vault(database.beside("postgres")).entries()
    role = f"reader_{database.address.rsplit('_', 1)[1]}"
    server.execute("CREATE ROLE {} LOGIN PASSWORD 'reader-password'", role)
    try:
        url = f"postgresql://{role}:reader-password@{database.address}"
        with pytest.raises(CouldNotBeDone, match="USAGE on schema vault"):
            Vault(Database(url)).value("OPENAI_API_KEY")
    finally:
        server.execute("DROP ROLE {}", role)


def test_a_process_follows_the_vault_and_a_refused_login_asks_it_at_once(
    vault: Vault, database: Database
) -> None:
    vault.write("OPENAI_API_KEY", SECRET)
    settings = Settings(
        _env_file=None, database_url=database.url, runbook_secret_store="vault", runbook_sandbox="wordpress",
        openai_api_key="sk-from-the-environment",
    )  # fmt: skip
    assert settings.sandboxed() == {"wordpress"}
    credentials = Credentials(settings, VaultSource(settings))
    reader = credentials.reader("OPENAI_API_KEY")
    assert reader() == SECRET
    assert credentials.in_use("OPENAI_API_KEY")["OPENAI_API_KEY"].origin == "vault"
    vault.write("OPENAI_API_KEY", OTHER)
    assert reader.after_refusal() == OTHER


def test_with_the_vault_a_key_need_not_stand_in_the_settings() -> None:
    """Else the sandbox would stand in without a word."""
    vaulted = Settings(
        _env_file=None, runbook_secret_store="vault", wordpress_url="https://site.example", wordpress_user="bot"
    )  # fmt: skip
    assert vaulted.sandboxed() == frozenset()
    with pytest.raises(ConfigurationError, match="WORDPRESS_URL, WORDPRESS_USER is not"):
        Settings(_env_file=None, runbook_secret_store="vault").sandboxed()


@dataclass
class ManagementApi:
    """A stand-in of the Management API's secrets: values go in, digests come out."""

    digests: dict[str, str] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 201
    forgets: bool = False
    url: str = ""


@pytest.fixture
def api() -> Iterator[ManagementApi]:
    state = ManagementApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] != "Bearer sbp_token-of-the-test-000000":
                return self._answer(401, {"message": "Unauthorized"})
            shown = [
                {"name": name, "value": digest, "updated_at": "2026-11-01T08:00:00.000Z"}
                for name, digest in state.digests.items()
            ]
            return self._answer(200, shown)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.bodies.append(body)
            if state.status != 201:
                return self._answer(state.status, {"message": f"invalid: {body.decode()}"})
            for each in json.loads(body) if not state.forgets else ():
                state.digests[each["name"]] = hashlib.sha256(each["value"].encode()).hexdigest()
            return self._answer(201, {})

        def _answer(self, status: int, content: object) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


def functions(api: ManagementApi, token: str = "sbp_token-of-the-test-000000") -> FunctionSecrets:
    return FunctionSecrets(api.url, "abcdefghij", token)


def test_a_function_secret_is_verified_by_its_digest(api: ManagementApi) -> None:
    store = FunctionStore(functions(api))
    assert "the digest that it shows is that of the new value" in store.write("OPENAI_API_KEY", SECRET)  # fmt: skip
    assert store.value("OPENAI_API_KEY") is None
    set_at = store.set_at("OPENAI_API_KEY")
    assert set_at is not None
    assert f"{set_at:%Y-%m-%d}" == "2026-11-01"
    assert json.loads(api.bodies[0]) == [{"name": "OPENAI_API_KEY", "value": SECRET}]


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ({"forgets": True}, "its digest is not that of the new value"),
        ({"status": 400}, "refused to write the secrets of project abcdefghij with 400"),
        ({"status": 403}, "may not do this in this project"),
        ({"digests": {f"NAME_{number}": "" for number in range(100)}}, "may have 100"),
    ],
)
def test_what_goes_wrong_at_the_api_is_said_without_the_value(
    api: ManagementApi, problem: dict[str, object], words: str
) -> None:
    for name, value in problem.items():
        setattr(api, name, value)
    with pytest.raises(CouldNotBeDone, match=words) as refused:
        functions(api).write("OPENAI_API_KEY", SECRET)
    assert SECRET not in str(refused.value)


def test_a_wrong_token_and_a_missing_one_are_told_apart(api: ManagementApi) -> None:
    with pytest.raises(CouldNotBeDone, match="the access token is not valid"):
        functions(api, "sbp_another-token-0000000000").listed()
    with pytest.raises(ConfigurationError, match="needs SUPABASE_PROJECT"):
        store_of(Settings(_env_file=None, runbook_secret_store="functions"), "OPENAI_API_KEY")


def test_a_rotation_of_function_secrets_says_that_their_use_cannot_be_seen(
    api: ManagementApi, database: Database, settings: Settings
) -> None:
    chosen = settings.model_copy(
        update={
            "runbook_secret_store": "functions", "supabase_api_url": api.url, "supabase_project": "abcdefghij",
            "supabase_access_token": Settings(supabase_access_token="sbp_token-of-the-test-000000").supabase_access_token,
        }
    )  # fmt: skip
    check = Rotation(chosen, database, "OPENAI_API_KEY", "ana").verify()
    assert check.verdict == "not_enough_data"
    assert "test_credentials" in check.message
