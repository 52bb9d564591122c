"""Why PostgreSQL or a pooler refused a connection.

At this stage libpq gives no error code, only a text, whatever the cause. So the texts are told apart
here, once, with what each means and what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runbook_lib.database.connection import NO_CONNECTION_LEFT


@dataclass(frozen=True)
class LoginFailure:
    """`step` is what failed: login, database, limit, encryption, access or server; `kind` is which one."""

    step: str
    meaning: str
    advice: str
    kind: str = ""


_LOWER = "Lower RUNBOOK_CONCURRENCY or the number of workers, or close idle connections"
_TABLE: tuple[tuple[str, LoginFailure], ...] = (
    # limits: three owners, three texts
    (r"too many connections for role", LoginFailure("limit", "This role has as many connections as it may have.", f"{_LOWER} of this role; or raise its limit: ALTER ROLE … CONNECTION LIMIT.", "role")),
    (r"too many connections for database", LoginFailure("limit", "This database has as many connections as it may have.", f"{_LOWER}; or raise its limit: ALTER DATABASE … CONNECTION LIMIT.", "database")),
    (NO_CONNECTION_LEFT, LoginFailure("limit", "The server has no connection left for ordinary roles (max_connections).", f"{_LOWER}; see who holds them: SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3.", "server")),
    (r"no more connections allowed|max client connections reached|maxclients|max_client_conn", LoginFailure("limit", "The pooler in front of the server takes no more clients; the server itself may be idle.", f"{_LOWER}; or raise the pooler's client limit (Supabase: pool size in the database settings).", "pooler")),
    (r"query_wait_timeout", LoginFailure("limit", "The pooler had no free server connection in time.", f"{_LOWER}; or raise the pooler's pool size.", "pooler")),
    # who
    (r"tenant or user not found|tenant/user .*not found", LoginFailure("login", "The Supabase pooler does not know this user.", "Through the pooler the user is role.project, e.g. postgres.abcdefgh; the region in the host name must be the project's.")),
    (r"(?:Peer|Ident|GSSAPI|LDAP|PAM|RADIUS|certificate|cert) authentication failed", LoginFailure("login", "The server identifies this user by other means than a password, and refused.", "Use another user, or have pg_hba.conf changed to scram-sha-256 for this one.")),
    (r"password authentication failed|wrong password|auth(?:entication)? failed|invalid password|SASL authentication failed", LoginFailure("login", "The password of this user is wrong, or the user does not exist (the server does not say which).", "Put the right password into DATABASE_URL, percent-encoded. After a rotation sessions that are open go on working: that others work proves nothing.", "password")),
    (r"no password supplied|fe_sendauth", LoginFailure("login", "The server wants a password, and DATABASE_URL holds none.", "Add it: postgresql://user:password@host:port/database.")),
    (r'role "[^"]*" does not exist|no such user', LoginFailure("login", "The server has no such user.", "Correct the user in DATABASE_URL.")),
    (r"is not permitted to log in", LoginFailure("login", "This role exists, but may not log in.", "ALTER ROLE … LOGIN, or use another role.")),
    # what
    (r'database "[^"]*" does not exist|no such database', LoginFailure("database", "Server and login are right, but there is no database of this name.", "Correct the name after the last / of DATABASE_URL, or create the database.")),
    (r"permission denied for database", LoginFailure("database", "This user may log in, but not into this database.", "GRANT CONNECT ON DATABASE … TO ….")),
    # how
    (r"no pg_hba\.conf entry.*(?:no encryption|SSL off)|SSL connection is required|server requires SSL|TLS required", LoginFailure("encryption", "The server takes encrypted connections only.", "Add ?sslmode=require to DATABASE_URL.")),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", LoginFailure("access", "The server does not let this user into this database from this machine's address (pg_hba.conf).", "Have this address allowed (Supabase: network restrictions; elsewhere: pg_hba.conf).")),
    (r"server does not support SSL", LoginFailure("encryption", "DATABASE_URL asks for encryption, and the server has none.", "Switch SSL on at the server; only where the network is trusted, use sslmode=disable.")),
    (r"root certificate file .* does not exist|could not read root certificate", LoginFailure("encryption", "DATABASE_URL asks to verify the server's certificate, and the authority's file is missing.", "Name it: &sslrootcert=/path/to/authority.crt.")),
    (r"certificate verify failed|does not match host name", LoginFailure("encryption", "The server's certificate is not one that this machine trusts for this name.", "Use the host name that stands in the certificate, and the provider's root certificate (&sslrootcert=…).")),
    (r"requires a valid client certificate|connection requires a valid client", LoginFailure("encryption", "The server wants a client certificate.", "Add &sslcert=…&sslkey=… to DATABASE_URL.")),
    (r"unsupported startup parameter", LoginFailure("access", "The pooler does not take a parameter of DATABASE_URL.", "Leave options= and other parameters out of DATABASE_URL.")),
    # where, when the address names no host
    (r"No such file or directory", LoginFailure("connection", "DATABASE_URL names no host, and no PostgreSQL listens on a socket of this machine at that place.", "Name the host, or the folder of the socket: ?host=/var/run/postgresql.")),
    (r"Connection refused", LoginFailure("connection", "Nothing takes connections there.", "Start the server, or correct the address in DATABASE_URL.")),
    # when
    (r"starting up|not yet accepting connections|recovery mode", LoginFailure("server", "The server is starting, or recovering after a crash.", "Wait a minute. If it stays, read the server's log.", "starting")),
    (r"shutting down", LoginFailure("server", "The server is shutting down.", "Start it again, or wait for the restart.", "stopping")),
    (r"not currently accepting connections", LoginFailure("server", "This database is closed to connections at the moment.", "Ask who is working on it: ALTER DATABASE … ALLOW_CONNECTIONS true opens it.")),
    (r"server login failed|server_login_retry|cannot connect to server|connection to database closed|pooler.*(?:unreachable|failed to connect)", LoginFailure("server", "The pooler is up, but cannot log in at the server behind it.", "Check the server behind the pooler, and the password that the pooler has.")),
    (r"timeout expired|canceling authentication due to timeout", LoginFailure("server", "The server took the connection and then said nothing in time: it is hung, or overloaded.", "Look at the server's load and log. Behind a pooler: its queue is full.", "silent")),
    (r"expected authentication request|received invalid response|unexpected response|invalid length of startup packet", LoginFailure("server", "What answers on this port is not PostgreSQL.", "Correct host and port in DATABASE_URL.")),
    (r"server closed the connection unexpectedly", LoginFailure("server", "The server or the pooler ended the connection during the login.", "If it stays, read its log. A pooler does this when no server connection became free in time.", "closed")),
)  # fmt: skip

_UNKNOWN = LoginFailure(
    "login", "The server refused the connection.", "The server's own words are in the message."
)


def explain_login_failure(text: str) -> LoginFailure:
    """What a connection error's text means; every cause has an entry of its own."""
    for pattern, failure in _TABLE:
        if re.search(pattern, text, re.IGNORECASE):
            return failure
    return _UNKNOWN
