"""Texts of failures as OpenAI, WordPress, PostgreSQL, networks and workers write them: a template a cause.

`seen` were in sight while the rules were made. `unseen` were written after the rules were frozen, and
the rules were not touched for them.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable

TITLES = (
    "How to Brew Coffee at Home", "Ten Gardens of Kyoto", "Remote teams: what works", "The best hiking boots of 2026",
    "Why sourdough fails", "A beginner's guide to indoor plants", "Tax tips for freelancers", "Winter cycling",
    "What to cook with leeks", "Electric cars in the city", "7 mistakes of first-time founders", "Reading with children",
    "Small kitchens, big ideas", "Solar panels explained", "Museums of Lisbon worth a morning", "Budget travel in Norway",
    "How to write a will", "Sleep and screens", "Running your first half marathon", "The quiet return of vinyl records",
)  # fmt: skip
HOSTS = (
    "blog.example.com",
    "www.acme-magazine.org",
    "cms.northwind.io",
    "example.net",
    "wp.kitchen.co",
)
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "o4-mini", "gpt-4-turbo-2024-04-09")
TABLES = ("content_jobs", "job_runs", "articles", "events", "workers", "provider_limits")
Make = Callable[[random.Random], str]


def n(r: random.Random, low: int = 1, high: int = 99_999) -> int:
    return r.randint(low, high)


def hexa(r: random.Random, digits: int = 24) -> str:
    return "".join(r.choice("0123456789abcdef") for _ in range(digits))


def mixed(r: random.Random, length: int = 24) -> str:
    return "".join(r.choice("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(length))  # fmt: skip


def job(r: random.Random) -> str:
    return str(uuid.UUID(int=r.getrandbits(128), version=4))


def slug(r: random.Random) -> str:
    return "-".join(word.strip(":,'").lower() for word in r.choice(TITLES).split())


def stamp(r: random.Random) -> str:
    return f"2026-{n(r, 1, 12):02}-{n(r, 1, 28):02} {n(r, 0, 23):02}:{n(r, 0, 59):02}:{n(r, 0, 59):02}.{n(r, 100, 999)}"


def pool(r: random.Random, path: str, cause: str) -> str:
    host = r.choice(HOSTS)
    return f"HTTPSConnectionPool(host='{host}', port=443): Max retries exceeded with url: {path} (Caused by {cause.format(host=host, at=f'0x7f{hexa(r, 10)}')})"


def code(status: int, message: str, kind: str, name: str | None, param: str = "None") -> str:
    said = f"'{name}'" if name else "None"
    return f"Error code: {status} - {{'error': {{'message': {message!r}, 'type': '{kind}', 'param': {param}, 'code': {said}}}}}"


SEEN: dict[str, Make] = {
    # OpenAI
    "quota": lambda r: code(429, "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.", "insufficient_quota", "insufficient_quota"),
    "tokens per minute": lambda r: code(429, f"Rate limit reached for {r.choice(MODELS)} in organization org-{mixed(r)} on tokens per min (TPM): Limit {n(r)}, Used {n(r)}, Requested {n(r)}. Please try again in {n(r, 1, 59)}.{n(r, 1, 999)}s. Visit https://platform.openai.com/account/rate-limits to learn more.", "tokens", "rate_limit_exceeded"),
    "requests per minute": lambda r: code(429, f"Rate limit reached for {r.choice(MODELS)} in organization org-{mixed(r)} on requests per min (RPM): Limit {n(r)}, Used {n(r)}, Requested 1. Please try again in {n(r, 1, 900)}ms. Visit https://platform.openai.com/account/rate-limits to learn more.", "requests", "rate_limit_exceeded"),
    "key": lambda r: code(401, f"Incorrect API key provided: sk-proj-{'*' * n(r, 8, 40)}{mixed(r, 4)}. You can find your API key at https://platform.openai.com/account/api-keys.", "invalid_request_error", "invalid_api_key"),
    "model": lambda r: code(404, f"The model `{r.choice(MODELS)}` does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
    "context": lambda r: code(400, f"This model's maximum context length is {n(r)} tokens. However, your messages resulted in {n(r)} tokens. Please reduce the length of the messages.", "invalid_request_error", "context_length_exceeded", "'messages'"),
    "content policy": lambda r: code(400, "Your request was rejected as a result of our safety system. Your prompt may contain text that is not allowed by our safety system.", "invalid_request_error", "content_policy_violation"),
    "server error": lambda r: code(500, f"The server had an error while processing your request. Sorry about that! You can retry your request, or contact us through our help center at help.openai.com if the error persists. (Please include the request ID req_{hexa(r, 32)} in your message.)", "server_error", None),
    "overloaded": lambda r: code(503, "That model is currently overloaded with other requests. You can retry your request.", "server_error", None),
    "region": lambda r: code(403, "Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
    "openai timeout": lambda r: f"APITimeoutError: Request timed out after {n(r, 10, 600)}.0 s while writing '{r.choice(TITLES)}'",
    "openai connection": lambda r: f"APIConnectionError: Connection error. (job {job(r)})",
    "no json": lambda r: f"JSONDecodeError: Expecting value: line {n(r, 1, 9)} column {n(r, 1, 90)} (char {n(r, 0, 900)})",
    "cut": lambda r: f"Article '{r.choice(TITLES)}' was cut: finish_reason=length after {n(r)} tokens",
    "refusal": lambda r: f"The model refused to write about \"{r.choice(TITLES)}\"",
    # WordPress
    "may not create": lambda r: f"401 rest_cannot_create: Sorry, you are not allowed to create posts as this user. (https://{r.choice(HOSTS)}/wp-json/wp/v2/posts)",
    "may not publish": lambda r: f"403 rest_cannot_publish: Sorry, you are not allowed to publish posts in this post type. ({r.choice(HOSTS)})",
    "password": lambda r: f"401 incorrect_password: The provided password is an invalid application password. user=content-bot{n(r, 1, 9)}",
    "user name": lambda r: f"401 invalid_username: Unknown username. Check again or try your email address. user=editor{n(r)}",
    "category": lambda r: f"Category \"{r.choice(TITLES).split(':')[0]}\" not found on https://{r.choice(HOSTS)}",
    "tag": lambda r: f"Tag \"{r.choice(TITLES).split(':')[0]}\" not found on https://{r.choice(HOSTS)}",
    "parameter": lambda r: f"400 rest_invalid_param: Invalid parameter(s): status for post '{slug(r)}'",
    "maintenance": lambda r: f"503 Service Unavailable from https://{r.choice(HOSTS)}/wp-json/wp/v2/posts?slug={slug(r)}: Briefly unavailable for scheduled maintenance. Check back in a minute.",
    "site's database": lambda r: f"500 Internal Server Error from https://{r.choice(HOSTS)}/wp-json/wp/v2/posts: Error establishing a database connection",
    "critical error": lambda r: f"500 Internal Server Error from https://{r.choice(HOSTS)}/wp-json/wp/v2/posts: There has been a critical error on this website. Please check your site admin email inbox for instructions.",
    "bad gateway": lambda r: f"502 Server Error: Bad Gateway for url: https://{r.choice(HOSTS)}/wp-json/wp/v2/posts/{n(r)}",
    "gateway timeout": lambda r: f"504 Server Error: Gateway Time-out for url: https://{r.choice(HOSTS)}/wp-json/wp/v2/posts/{n(r)}",
    "too large": lambda r: f"413 Client Error: Request Entity Too Large for url: https://{r.choice(HOSTS)}/wp-json/wp/v2/media?post={n(r)}",
    "could not insert": lambda r: f"500 db_insert_error: Could not insert post into the database. (post {n(r)}, {r.choice(TITLES)})",
    "refused": lambda r: pool(r, f"/wp-json/wp/v2/posts?slug={slug(r)}", "NewConnectionError('<urllib3.connection.HTTPSConnection object at {at}>: Failed to establish a new connection: [Errno 111] Connection refused')"),
    "connect timeout": lambda r: pool(r, f"/wp-json/wp/v2/posts/{n(r)}", "ConnectTimeoutError(<urllib3.connection.HTTPSConnection object at {at}>, 'Connection to {host} timed out. (connect timeout=" + str(n(r, 1, 60)) + ")')"),
    "name": lambda r: pool(r, "/wp-json/", "NameResolutionError(\"<urllib3.connection.HTTPSConnection object at {at}>: Failed to resolve '{host}' ([Errno -2] Name or service not known)\")"),
    "certificate expired": lambda r: pool(r, f"/wp-json/wp/v2/posts?slug={slug(r)}", f"SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:{n(r, 900, 1100)})'))"),
    "certificate host": lambda r: pool(r, f"/wp-json/wp/v2/posts?slug={slug(r)}", f"SSLError(SSLCertVerificationError(1, \"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for '{r.choice(HOSTS)}'. (_ssl.c:{n(r, 900, 1100)})\"))"),
    "read timeout": lambda r: f"HTTPSConnectionPool(host='{r.choice(HOSTS)}', port=443): Read timed out. (read timeout={n(r, 1, 60)})",
    "reset": lambda r: f"('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer')) while publishing {slug(r)}",
    "curl time": lambda r: f"cURL error 28: Operation timed out after {n(r)} milliseconds with {n(r, 0, 900)} bytes received",
    "curl name": lambda r: f"cURL error 6: Could not resolve host: {r.choice(HOSTS)}",
    # PostgreSQL
    "deadlock": lambda r: f"deadlock detected\nDETAIL:  Process {n(r)} waits for ShareLock on transaction {n(r)}; blocked by process {n(r)}.\nProcess {n(r)} waits for ShareLock on transaction {n(r)}; blocked by process {n(r)}.",
    "statement timeout": lambda r: f"canceling statement due to statement timeout (SQLSTATE 57014) after {n(r)} ms",
    "lock timeout": lambda r: f"canceling statement due to lock timeout (SQLSTATE 55P03) after {n(r)} ms",
    "slots": lambda r: f"connection to server at \"{n(r, 1, 254)}.{n(r, 1, 254)}.3.{n(r, 1, 254)}\", port 5432 failed: FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "role limit": lambda r: f"connection to server at \"db.{mixed(r, 20).lower()}.supabase.co\", port 5432 failed: FATAL:  too many connections for role \"worker_{n(r, 1, 30)}\"",
    "database limit": lambda r: f"connection to server at \"db.{mixed(r, 20).lower()}.supabase.co\", port 5432 failed: FATAL:  too many connections for database \"pipeline_{n(r, 1, 30)}\"",
    "pooler limit": lambda r: f"connection to server at \"{r.choice(HOSTS)}\", port 6543 failed: FATAL:  Max client connections reached",
    "same key": lambda r: f"duplicate key value violates unique constraint \"content_jobs_idempotency_key\"\nDETAIL:  Key (idempotency_key)=({slug(r)}) already exists.",
    "same article": lambda r: f"duplicate key value violates unique constraint \"articles_pkey\"\nDETAIL:  Key (job_id)=({job(r)}) already exists.",
    "no relation": lambda r: f"relation \"{r.choice(TABLES)}\" does not exist\nLINE {n(r, 1, 40)}: SELECT * FROM {r.choice(TABLES)}",
    "no column": lambda r: f"column \"{r.choice(TABLES)}_at\" does not exist\nLINE {n(r, 1, 40)}: SELECT {r.choice(TABLES)}_at",
    "table denied": lambda r: f"permission denied for table {r.choice(TABLES)}",
    "schema denied": lambda r: f"permission denied for schema {r.choice(('public', 'pipeline', 'ops', 'content'))}",
    "closed": lambda r: "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.",
    "database refused": lambda r: f"connection to server at \"{n(r, 1, 254)}.0.0.{n(r, 1, 254)}\", port {n(r, 5000, 6000)} failed: Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
    "database password": lambda r: f"connection to server at \"{r.choice(HOSTS)}\" ({n(r, 1, 254)}.0.0.{n(r, 1, 254)}), port 5432 failed: FATAL:  password authentication failed for user \"worker{n(r, 1, 30)}\"",
    "read only": lambda r: f"cannot execute {r.choice(('UPDATE', 'UPDATE'))} in a read-only transaction",
    "disk": lambda r: f"could not extend file \"base/{n(r)}/{n(r)}.{n(r, 1, 99)}\": No space left on device\nHINT:  Check free disk space.",
    "too long": lambda r: f"value too long for type character varying({r.choice((100, 200, 255))})",
    # workers
    "vanished": lambda r: f"The worker host{n(r, 1, 40)}:{n(r)} vanished during attempt {n(r, 1, 9)}.",
    "wall clock": lambda r: f"{stamp(r)} Function exceeded its wall clock limit of {n(r, 100, 400)}s (execution {job(r)})",
    "cpu": lambda r: f"{stamp(r)} Function exceeded its CPU time limit of {n(r, 1, 9)}s (execution {job(r)})",
    "too alike": lambda r: f"Duplicate content: the article for job {job(r)} is {n(r, 80, 99)}.{n(r, 0, 9)} % like the one of job {job(r)}",
    "free text": lambda r: f"Failed to publish article {r.choice(TITLES)}: the editor's plan has no free place",
    "deno fetch": lambda r: f"TypeError: error sending request for url (https://api.openai.com/v1/chat/completions): connection closed before message completed [{hexa(r, 12)}]",
    "node name": lambda r: f"FetchError: request to https://{r.choice(HOSTS)}/wp-json/wp/v2/posts failed, reason: getaddrinfo ENOTFOUND {r.choice(HOSTS)}",
    "node reset": lambda r: f"FetchError: request to https://{r.choice(HOSTS)}/wp-json/wp/v2/posts failed, reason: read ECONNRESET",
}  # fmt: skip

UNSEEN: dict[str, Make] = {
    # OpenAI and its gateways
    "gateway's key": lambda r: code(401, f"Authentication Error, Invalid proxy server token passed. Received API Key = sk-...{mixed(r, 4)}, Key Hash (Token) ={hexa(r, 64)}. Unable to find token in cache or `LiteLLM_VerificationTokenTable`", "token_not_found_in_db", "401"),
    "budget": lambda r: code(400, f"Budget has been exceeded! Current cost: {n(r, 1, 90)}.{n(r)}, Max budget: {n(r, 1, 90)}.0", "budget_exceeded", "400"),
    "bad parameter": lambda r: code(400, f"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead. (request {hexa(r, 16)})", "invalid_request_error", "unsupported_parameter", "'max_tokens'"),
    "organization": lambda r: code(401, f"You must be a member of an organization to use the API. Please contact us at help.openai.com (req_{hexa(r, 20)})", "invalid_request_error", None),
    "daily requests": lambda r: code(429, f"Rate limit reached for {r.choice(MODELS)} in organization org-{mixed(r)} on requests per day (RPD): Limit {n(r)}, Used {n(r)}, Requested 1. Please try again in {n(r, 1, 20)}m{n(r, 1, 59)}.{n(r, 0, 999)}s.", "requests", "rate_limit_exceeded"),
    "stream broke": lambda r: f"RemoteProtocolError: peer closed connection without sending complete message body (incomplete chunked read) after {n(r)} bytes of \"{r.choice(TITLES)}\"",
    "schema answer": lambda r: f"ValidationError: {n(r, 1, 9)} validation errors for Article body_markdown Field required [type=missing, input_value={{'title': '{r.choice(TITLES)}'}}, input_type=dict]",
    # WordPress
    "post gone": lambda r: f"404 rest_post_invalid_id: Invalid post ID. (post {n(r)} at {r.choice(HOSTS)})",
    "upload type": lambda r: f"500 rest_upload_unknown_error: Sorry, you are not allowed to upload this file type. ({slug(r)}.webp)",
    "nonce": lambda r: f"403 rest_cookie_invalid_nonce: Cookie check failed at https://{r.choice(HOSTS)}/wp-json/wp/v2/posts/{n(r)}",
    "firewall": lambda r: f"403 Client Error: Forbidden for url: https://{r.choice(HOSTS)}/wp-json/wp/v2/posts - Sorry, you have been blocked. Cloudflare Ray ID: {hexa(r, 16)} • Your IP: {n(r, 1, 254)}.{n(r, 1, 254)}.7.{n(r, 1, 254)}",
    "site not there": lambda r: f"521 Server Error: Web server is down for url: https://{r.choice(HOSTS)}/wp-json/wp/v2/posts (Ray {hexa(r, 16)})",
    "php memory": lambda r: f"PHP Fatal error: Allowed memory size of {n(r, 10_000_000, 900_000_000)} bytes exhausted (tried to allocate {n(r)} bytes) in /var/www/{r.choice(HOSTS)}/wp-includes/class-wpdb.php on line {n(r, 1, 4000)}",
    "tls version": lambda r: pool(r, f"/wp-json/wp/v2/posts/{n(r)}", f"SSLError(SSLError(1, '[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version (_ssl.c:{n(r, 900, 1100)})'))"),
    # PostgreSQL and poolers
    "serialization": lambda r: f"could not serialize access due to concurrent update (job {job(r)}, attempt {n(r, 1, 9)})",
    "null topic": lambda r: f"null value in column \"topic\" of relation \"content_jobs\" violates not-null constraint\nDETAIL:  Failing row contains ({job(r)}, null, {n(r)}, pending, {stamp(r)}).",
    "status word": lambda r: f"new row for relation \"content_jobs\" violates check constraint \"content_jobs_status_check\"\nDETAIL:  Failing row contains ({job(r)}, {r.choice(TITLES)}, done, {stamp(r)}).",
    "foreign key": lambda r: f"insert or update on table \"job_runs\" violates foreign key constraint \"job_runs_job_id_fkey\"\nDETAIL:  Key (job_id)=({job(r)}) is not present in table \"content_jobs\".",
    "administrator": lambda r: f"FATAL:  terminating connection due to administrator command (backend {n(r)})",
    "idle transaction": lambda r: f"FATAL:  terminating connection due to idle-in-transaction timeout (backend {n(r)})",
    "starting up": lambda r: f"connection to server at \"{r.choice(HOSTS)}\", port 5432 failed: FATAL:  the database system is starting up",
    "shutting down": lambda r: f"connection to server at \"{r.choice(HOSTS)}\", port 5432 failed: FATAL:  the database system is shutting down",
    "name of database": lambda r: f"could not translate host name \"db.{mixed(r, 20).lower()}.supabase.co\" to address: Temporary failure in name resolution",
    "bytes": lambda r: f"invalid byte sequence for encoding \"UTF8\": 0x{hexa(r, 2)} (topic of job {job(r)})",
    # workers
    "no memory": lambda r: f"{stamp(r)} worker {n(r)}: process killed by signal 9 (out of memory), job {job(r)}",
    "no files": lambda r: f"OSError: [Errno 24] Too many open files: '/tmp/articles/{slug(r)}.md'",
    "unquoted category": lambda r: f"Job {n(r)}: no category mapping for {r.choice(TITLES)} in plan {n(r, 2024, 2027)}",
}  # fmt: skip


def variants(make: Make, count: int, seed: int) -> list[str]:
    """So many texts of one cause."""
    randomness = random.Random(seed)
    return [make(randomness) for _ in range(count)]
