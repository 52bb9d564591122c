"""No secret leaves a kernel, whatever it is printed, wrapped, drawn or raised in."""

from __future__ import annotations

import base64
import os
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from fixture_procedures import write_procedure

from runbook_lib import known_secrets
from runbook_lib.archive.store import open_store
from runbook_lib.credentials.masking import mask
from runbook_lib.database import Database
from runbook_lib.procedures.kernel import held_back, pack
from runbook_lib.procedures.runner import run
from runbook_lib.settings import Settings

CANARIES = {
    "OPENAI_API_KEY": "sk-proj-Canary0penAIkeyAbcdefghijklmnop12345",
    "OPENAI_ADMIN_KEY": "sk-admin-CanaryAdminKeyAbcdefghijklm98765",
    "WORDPRESS_USER": "editor",
    "WORDPRESS_APP_PASSWORD": "cnRY 7xQz pL2m Wn4k 8sTv b6Yd",
    "RUNBOOK_FUNCTIONS_KEY": "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiY2FuYXJ5X3NlcnZpY2UifQ.c2lnbmF0dXJlLW9mLWEtY2FuYXJ5",
    "RUNBOOK_READ_TOKEN": "sb_secret_CanarySupabaseKey/0123456789",
    "RUNBOOK_WRITE_TOKEN": "canary-write-token-'quoted'-and-\\slashed",
    "RUNBOOK_ALERT_URLS": "slack://canaryTokenA/canaryTokenB/canaryTokenC",
}
# These no setting holds: only their form tells that they are secrets.
UNKNOWN = [
    "sk-proj-NobodyTellsThisKeyAbcdefghijklmnop77",
    "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoibm9ib2R5X3RvbGQifQ.c2lnbmF0dXJlLW9mLW5vYm9keQ",
    "sbp_0123456789abcdef0123456789abcdefnobody",
]

CELLS = [
    # raw, URL-quoted, base64, in base64's lines, as the Basic header
    "import os, sys, base64, textwrap, urllib.parse, pprint\n"
    f"unknown = [a + b for a, b in {[(each[:9], each[9:]) for each in UNKNOWN]!r}]\n"
    "names = [n for n in os.environ if n in " + repr([*CANARIES, "DATABASE_URL"]) + "]\n"
    "secrets = [os.environ[n] for n in names]; print(*unknown)\n"
    "for s in secrets: print(s, urllib.parse.quote(s, safe=''), base64.b64encode(s.encode()).decode())",
    "basic = base64.b64encode(f\"editor:{os.environ['WORDPRESS_APP_PASSWORD']}\".encode()).decode()\n"
    "print('Authorization: Basic', basic, file=sys.stderr)",
    # split: over flushes, over lines, over quoted parts
    "for s in secrets:\n    for part in (s[:7], s[7:19], s[19:]): sys.stdout.write(part); sys.stdout.flush()\n    print()",
    "for s in secrets: print(textwrap.fill(s, 17)); print(base64.encodebytes(s.encode() * 3).decode())",
    "pprint.pprint({'a': [s + ' and some more words' for s in secrets]}, width=20)",
    "import pandas\npandas.DataFrame({'secret': secrets + unknown})",
    "import io, matplotlib.pyplot as plt\nfrom IPython.display import SVG, HTML, Markdown, JSON\n"
    "figure, axes = plt.subplots()\naxes.set_title('plain'); held = io.StringIO()\n"
    "figure.savefig(held, format='svg', metadata={'Title': secrets[0]}); plt.close(figure)\nSVG(held.getvalue())",
    "HTML('<b>' + secrets[0] + '</b>'), display(Markdown(secrets[3])), display(JSON({'key': secrets}))",
    "import warnings\nwarnings.warn(secrets[0]); os.system('echo ' + secrets[0])",
    "from runbook_lib import conclude\nconclude({'keys': secrets, secrets[0]: 1}, 'ok', secrets[0])",
    "def fail(password): raise ValueError(f'{password} and {secrets}')\ntry: fail(secrets[0])\n"
    "except ValueError as error: raise RuntimeError(secrets[3]) from error",
]  # fmt: skip


def written_forms(value: str) -> set[str]:
    encoded = base64.b64encode(value.encode()).decode()
    return {value, value.replace(" ", ""), quote(value, safe=""), encoded}


def without_breaks(data: bytes) -> bytes:
    return b"".join(data.replace(b"\\n", b"").replace(b'"', b"").replace(b",", b"").split())


def test_no_canary_is_found_anywhere(
    database: Database, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        database_url=database.url, runbook_home=home, runbook_procedures=tmp_path / "own",
        wordpress_url="https://blog.example",
    )  # fmt: skip
    monkeypatch.setenv("WORDPRESS_URL", "https://blog.example")
    settings.make_secrets_known()
    write_procedure(
        tmp_path / "own", "fixture/leaks", *CELLS, parameters="note = 'a'",
    )  # fmt: skip
    seen: list[bytes] = []
    name = urlsplit(database.url).path

    def look(_: Any) -> None:
        (directory,) = (home / "runs").iterdir()
        seen.extend(path.read_bytes() for path in directory.rglob("*") if path.is_file())
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = process.read_bytes()
            except OSError:
                continue  # It has ended.
            # Tests beside this one hand their own databases, on the same server, to programs of theirs.
            if b"/test_" not in command or name.encode() in command:
                seen.append(command)

    record = run(
        "fixture/leaks", {"note": "b"}, "tester", database=database, settings=settings,
        on_progress=look,
    )  # fmt: skip
    assert (record.status, record.cells_done) == ("failed", len(CELLS) + 2)
    assert record.verdict == "ok"
    store = open_store(settings)
    assert record.archive.notebook is not None
    assert record.archive.html is not None
    notebook, page = store.read(record.archive.notebook), store.read(record.archive.html)
    with database.transaction() as transaction:
        rows = transaction.rows("SELECT notebook_runs::text AS text FROM notebook_runs")
    seen += [notebook, page, repr(record).encode(), *(row.text.encode() for row in rows)]
    assert notebook.count(b"[masked]") > 50
    password = str(urlsplit(database.url).password)
    basic = f"editor:{CANARIES['WORDPRESS_APP_PASSWORD']}"
    values = [*CANARIES.values(), password, basic, database.url]
    values.remove("editor")
    assert len(values) + len(UNKNOWN) >= 12
    for data in seen:
        together = without_breaks(data)
        assert not [value for value in UNKNOWN if value.encode() in data]
        for value in values:
            for form in written_forms(value):
                assert form.encode() not in data
                assert without_breaks(form.encode()) not in together


SECRET = "canary of thirty characters+1/2"


@pytest.mark.parametrize(
    "text",
    [
        textwrap.fill(SECRET, 8),
        "\n".join(SECRET.replace(" ", "")),
        base64.encodebytes(SECRET.encode() * 4).decode(),
        f"('{SECRET[:9]}'\n '{SECRET[9:]}')",
        f'["{SECRET[:9]}\\n",\n "{SECRET[9:]}"]',
        f"a table: {SECRET[:20]}...",
        f"a table: {SECRET[:14]}…",
    ],
)
def test_a_known_secret_is_masked_where_it_is_broken(text: str) -> None:
    known_secrets.register(SECRET, "a canary")
    masked = mask(f"before\n{text}\nafter")
    assert masked.startswith("before\n")
    assert masked.endswith("\nafter")
    assert "canary" not in masked
    assert "Y2FuYXJ5" not in masked
    assert "c\na\nn" not in masked
    assert known_secrets.found_in(masked.encode()) == []


def test_what_may_begin_a_secret_is_held_back() -> None:
    known_secrets.register(SECRET, "a canary")
    assert held_back(f"the word {SECRET[:11]}") == 11
    # Ends with what no secret of any other test begins with.
    assert held_back(f"the word {SECRET}\N{SNOWMAN}") == 0
    assert held_back("nothing of it") in (0, 1, 2)  # whatever other tests made known


def test_pictures_stay_and_texts_are_masked_in_what_a_kernel_says() -> None:
    known_secrets.register(SECRET, "a canary")
    picture = base64.b64encode(os.urandom(3000)).decode()
    said = pack({"data": {"image/png": picture, "text/plain": SECRET}, "list": [SECRET]})
    assert picture.encode() in said
    assert SECRET.encode() not in said
