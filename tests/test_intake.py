"""Taking jobs in: every row is added, a duplicate or rejected with its place and reason."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.pipeline import intake
from runbook_lib.pipeline.intake import IntakeResult, add_jobs, add_topics
from runbook_lib.pipeline.job_files import open_job_file
from runbook_lib.pipeline.job_rows import BrokenRow, FileRow, Unfit, content_key, new_job
from runbook_lib.settings import PROJECT_DIRECTORY


def add(database: Database, content: bytes | str, **options: Any) -> IntakeResult:
    data = content.encode() if isinstance(content, str) else content
    return add_jobs(database, io.BytesIO(data), created_by="ana", name="t", **options)


def stored(database: Database, column: str = "topic") -> list[Any]:
    with database.transaction() as transaction:
        return [
            getattr(row, column)
            for row in transaction.rows(
                "SELECT * FROM content_jobs ORDER BY split_part(source, ':', 2)::int"
            )
        ]


def read(content: bytes | str, maximum: int = 4_000, **options: Any) -> list[FileRow | BrokenRow]:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    with open_job_file(io.BytesIO(data), name="t", **options) as file:
        return list(file.rows(maximum))


def rejections(result: IntakeResult) -> list[tuple[int, str | None, str]]:
    return [(row.line, row.column, row.reason) for row in result.rejected_rows]


# columns and values


def test_every_column_is_taken(database: Database) -> None:
    result = add(
        database,
        "topic,category,keywords,audience,tone,post_status,priority,run_at,idempotency_key\n"
        'Green tea,Tea,"leaf; water, cup",beginners,calm,Draft,7,2199-01-01T08:00+01:00,k-1\n',
    )
    assert (result.added, result.duplicates, result.rejected) == (1, 0, 0)
    with database.transaction() as transaction:
        job = transaction.row("SELECT * FROM content_jobs")
    assert (job.topic, job.category, job.audience, job.tone) == (
        "Green tea",
        "Tea",
        "beginners",
        "calm",
    )
    assert job.keywords == ["leaf", "water", "cup"]
    assert (job.requested_post_status, job.priority, job.idempotency_key) == ("draft", 7, "k-1")
    assert job.run_at.isoformat() == "2199-01-01T07:00:00+00:00"
    assert (job.created_by, job.source, job.status) == ("ana", "t:2", "pending")
    assert result.job_ids == [str(job.job_id)]


def test_headings_are_known_by_their_aliases_whatever_their_case(database: Database) -> None:
    result = add(
        database, " TITLE ;Target Audience;key-words;Prio;Colour\nGreen tea;all;leaf;high;red\n"
    )
    assert result.added == 1
    assert stored(database, "audience") == ["all"]
    assert stored(database, "keywords") == [["leaf"]]
    assert stored(database, "priority") == [50]
    assert len(result.warnings) == 1
    assert "Colour was not read" in result.warnings[0]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("topic", "  ", "is empty"),
        ("topic", "x" * 4001, "has 4001 characters; 4000 are allowed"),
        ("topic", "a\x00b", "holds a NUL"),
        ("post_status", "live", "can be publish, draft, pending"),
        ("priority", "soon", "whole number"),
        ("priority", "99999999999", "whole number"),
        ("run_at", "12/31/2026", "write 2026-12-31"),
        ("run_at", "0001-01-01T00:00+14:00", "write 2026-12-31"),
        ("category", "x" * 501, "has 501 characters"),
        ("keywords", ";".join(map(str, range(51))), "50 are allowed"),
        ("idempotency_key", "k" * 501, "has 501 characters"),
    ],
)
def test_a_value_that_does_not_fit_is_rejected_with_column_and_reason(
    column: str, value: str, reason: str
) -> None:
    with pytest.raises(Unfit, match=reason) as caught:
        new_job(2, {"topic": "Green tea", column: value}, 4_000)
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("column", "value"),
    [("topic", 5), ("topic", ["a"]), ("topic", "\ud800"), ("tone", {}), ("priority", True), ("priority", 1.5), ("keywords", [1]), ("keywords", 1)],
)  # fmt: skip
def test_a_json_value_of_another_kind_is_rejected(column: str, value: Any) -> None:
    with pytest.raises(Unfit) as caught:
        new_job(1, {"topic": "Green tea", column: value}, 4_000)
    assert caught.value.column == column


def test_a_bad_row_is_named_with_file_line_column_and_reason_and_the_good_ones_are_taken(
    database: Database,
) -> None:
    result = add(database, 'topic,priority\n"Green\ntea",1\n,2\nBlack tea,soon\nWhite tea,3\n')
    assert stored(database) == ["Green\ntea", "White tea"]
    assert [row[:2] for row in rejections(result)] == [(4, "topic"), (5, "priority")]
    assert str(result.rejected_rows[0]) == "t, line 4, topic: is empty"


def test_a_time_that_is_over_means_at_once(database: Database) -> None:
    add(database, "topic,run_at\nGreen tea,2001-01-01\n")
    assert stored(database, "run_at") == [None]


# the form of files


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_the_delimiter_and_line_ends_are_found_out(delimiter: str, line_end: str) -> None:
    lines = ["topic|category|tone", '"Tea; black, or green?"|Tea|calm', "Coffee|Drinks|", ""]
    rows = read(line_end.join(line.replace("|", delimiter) for line in lines))
    assert rows == [
        FileRow(2, {"topic": "Tea; black, or green?", "category": "Tea", "tone": "calm"}),
        FileRow(3, {"topic": "Coffee", "category": "Drinks", "tone": ""}),
    ]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_the_encoding_is_found_out(encoding: str) -> None:
    with open_job_file(io.BytesIO("topic\nCafé «au lait»\n".encode(encoding)), name="t") as file:
        assert [row.values for row in file.rows(4_000) if isinstance(row, FileRow)] == [
            {"topic": "Café «au lait»"}
        ]
        assert bool(file.warnings) == (encoding == "cp1252")


def test_one_damaged_byte_rejects_its_row_and_does_not_turn_the_others_into_nonsense(
    database: Database,
) -> None:
    result = add(database, "topic\nCafé\n".encode() + b"Th\xe9\n" + "Maté\n".encode())
    assert stored(database) == ["Café", "Maté"]
    assert rejections(result) == [(3, "topic", "holds the byte 0xe9, which is no character here")]


def test_a_row_that_breaks_the_csv_does_not_eat_the_rest(database: Database) -> None:
    result = add(
        database,
        "topic,category\n"
        "Green tea,Tea\n"
        '"Never closed,Tea\n'
        "Black tea,Tea\n"
        '"Closed" too early,Tea\n'
        '12" pans,Kitchen\n'
        "White tea,Tea,one,too many\n"
        "Red tea\n",
    )
    assert stored(database) == ["Green tea", "Black tea", '12" pans', "Red tea"]
    assert [row[0] for row in rejections(result)] == [3, 5, 7]
    assert "closed before its text ends" in rejections(result)[0][2]
    assert "needs quotes" in rejections(result)[2][2]


def test_a_quote_that_is_never_closed_costs_one_line(database: Database) -> None:
    result = add(database, 'topic\n"Never closed\n' + "".join(f"Tea {n}\n" for n in range(3000)))
    assert (result.added, result.rejected) == (3000, 1)
    assert rejections(result) == [(2, None, "opens a quote that is never closed")]


def test_a_topic_of_ten_megabytes_is_one_rejected_row_quoted_over_many_lines_or_not(
    database: Database,
) -> None:
    line = "tea " * 25_000
    huge = "\n".join([line] * 100)
    result = add(database, f'topic\n"{huge}"\nGreen tea\n{huge.replace(chr(10), " ")}\nBlack tea\n')
    assert stored(database) == ["Green tea", "Black tea"]
    assert rejections(result) == [
        (line, None, "is longer than 104000 characters") for line in (2, 103)
    ]


def test_json_lines_are_read_with_their_line_numbers(database: Database) -> None:
    lines = [
        '{"title": "Green tea", "keywords": ["leaf"], "colour": 1}',
        "",
        '"Black tea"',
        "{broken",
        "[1]",
        "[" * 100_000,
        '{"topic": "half \\ud800"}',
        '{"topic": "\\u0000"}',
        '{"topic": "White tea\u2028still the same line"}',
    ]
    result = add(database, "\n".join(lines))
    assert stored(database) == ["Green tea", "Black tea", "White tea\u2028still the same line"]
    assert [row[:2] for row in rejections(result)] == [
        (4, None), (5, None), (6, None), (7, "topic"), (8, "topic"),
    ]  # fmt: skip
    assert ["colour" in warning for warning in result.warnings] == [True]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("name,colour\nTea,green\n", "no column for the topic. Its headings are: name, colour"),
        ('[{"topic": "Tea"}]', "one JSON array"),
    ],
)
def test_a_file_that_cannot_hold_topics_is_refused_in_words(content: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(content)


def test_a_path_that_cannot_be_read_is_refused_in_words(database: Database, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        add_jobs(database, tmp_path / "absent.csv", created_by="ana")
    with pytest.raises(UsageError, match="cannot be read"):
        add_jobs(database, tmp_path, created_by="ana")


def test_a_stream_that_cannot_be_read_twice_is_taken(database: Database) -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:
        pipe.write(b'sep=;\r\ntopic;tone\r\n"Green; tea";calm\r\n')
    with open(reading, "rb") as pipe:
        assert add_jobs(database, pipe, created_by="ana").added == 1
    assert stored(database) == ["Green; tea"]


# each job once


def test_the_same_file_twice_adds_nothing_and_names_the_earlier_jobs(database: Database) -> None:
    content = "topic\nGreen tea\nBlack tea\n"
    first = add(database, content)
    with database.transaction() as transaction:
        transaction.run(
            "UPDATE content_jobs SET post_url = 'https://site/green' WHERE topic = 'Green tea'"
        )
    second = add(database, content)
    assert (second.added, second.duplicates) == (0, 2)
    green, black = second.duplicate_rows
    assert [green.job_id, black.job_id] == first.job_ids
    assert (green.line, green.status, green.post_url, green.source) == (
        2,
        "pending",
        "https://site/green",
        "t:2",
    )
    assert f"is job {green.job_id} already (pending, https://site/green, from t:2)" in str(green)


def test_case_spacing_and_the_order_of_keywords_make_no_new_job(database: Database) -> None:
    result = add(
        database,
        'topic,keywords\nGreen  Tea,"leaf, cup"\ngreen tea ,Cup; LEAF\nGreen tea,leaf\n',
    )
    assert (result.added, result.duplicates) == (2, 1)
    assert result.duplicate_rows[0].line == 3
    assert result.duplicate_rows[0].source == "t:2"


def test_a_duplicate_in_a_later_batch_is_found_too(database: Database) -> None:
    content = "topic\n" + "".join(f"Tea {n}\n" for n in range(intake.BATCH_ROWS + 1)) + "Tea 0\n"
    result = add(database, content)
    assert (result.added, result.duplicates) == (intake.BATCH_ROWS + 1, 1)
    assert (result.duplicate_rows[0].line, result.duplicate_rows[0].source) == (
        intake.BATCH_ROWS + 3,
        "t:2",
    )


def test_a_given_key_goes_before_the_content(database: Database) -> None:
    result = add(database, "topic,idempotency_key\nGreen tea,a\nGreen tea,b\nBlack tea,a\n")
    assert (result.added, result.duplicates) == (2, 1)
    assert stored(database) == ["Green tea", "Green tea"]


def test_an_intake_that_was_interrupted_can_be_repeated(database: Database) -> None:
    rows = 2 * intake.BATCH_ROWS + 10
    content = "topic\n" + "".join(f"Tea {n}\n" for n in range(rows))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    interrupted = IntakeResult()
    with pytest.raises(KeyboardInterrupt):
        add(database, content, progress=interrupt, result=interrupted)
    assert interrupted.added == intake.BATCH_ROWS
    result = add(database, content)
    assert (result.added, result.duplicates) == (rows - intake.BATCH_ROWS, intake.BATCH_ROWS)


def test_two_intakes_of_the_same_rows_in_another_order_add_each_once(database: Database) -> None:
    topics = [f"Tea {n}" for n in range(300)]
    results: list[IntakeResult] = []

    def add_in(order: list[str]) -> None:
        results.append(add_topics(database, order, created_by="ana"))

    threads = [threading.Thread(target=add_in, args=(order,)) for order in (topics, topics[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert sum(result.added for result in results) == 300
    assert sum(result.duplicates for result in results) == 300


def test_an_intake_waits_only_so_long_for_somebody_who_adds_the_same_job(
    database: Database,
) -> None:
    with database.transaction() as other:
        other.run(
            "INSERT INTO content_jobs (topic, idempotency_key) VALUES ('Green tea', %(key)s)",
            key=content_key("Green tea"),
        )
        impatient = Database(database.url, deadline_seconds=0.5)
        with pytest.raises(CouldNotBeDone, match="Adding the file again goes on"):
            add(impatient, "topic\nGreen tea\n")
    assert add(database, "topic\nGreen tea\n").duplicates == 1


def test_programs_add_topics_without_a_file(database: Database) -> None:
    result = add_topics(
        database,
        ["Green tea", {"topic": "Black tea", "category": "Tea", "priority": 5}, {"tone": "calm"}],
        created_by="planner",
        source="campaign",
    )
    assert (result.added, rejections(result)) == (2, [(3, "topic", "is empty")])
    assert stored(database, "source") == ["campaign:1", "campaign:2"]


def test_an_intake_tells_idle_workers(database: Database) -> None:
    with database.connect() as listener:
        with listener.raw.cursor() as cursor:
            cursor.execute("LISTEN content_jobs")
        add(database, "topic\n" + "".join(f"Tea {n}\n" for n in range(intake.BATCH_ROWS + 5)))
        listener.raw.poll()
        assert len(listener.raw.notifies) == 1


# rejects


def test_rejected_rows_are_written_for_correction_and_hold_no_formula(database: Database) -> None:
    file = io.StringIO(newline="")
    result = add(
        database,
        'topic,tone,priority\nGreen tea,=HYPERLINK("x"),soon\nBlack tea,+1,soon\n@x,-1,soon\nno,"\tx",soon\n',
        rejects=file,
    )
    assert result.rejected == 4
    rows = list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    assert [(row["rejected_line"], row["rejected_column"]) for row in rows] == [
        (str(line), "priority") for line in (2, 3, 4, 5)
    ]
    assert [row["tone"] for row in rows] == ['\'=HYPERLINK("x")', "'+1", "'-1", "'\tx"]
    assert rows[2]["topic"] == "'@x"
    assert "whole number" in rows[0]["reason"]


def test_corrected_rejects_are_taken(database: Database) -> None:
    file = io.StringIO(newline="")
    add(database, "topic,priority\nGreen tea,soon\n", rejects=file)
    corrected = file.getvalue().replace("soon,", "10,").encode("utf-8-sig")
    result = add(database, corrected)
    assert (result.added, result.rejected) == (1, 0)
    assert stored(database, "priority") == [10]


# memory and size


def test_memory_does_not_grow_with_the_file(database: Database, tmp_path: Path) -> None:
    def peak_bytes(rows: int) -> int:
        path = tmp_path / f"{rows}.csv"
        path.write_text(
            "topic,tone\n" + "".join(f"Tea {n} {'x' * 300},soft\n" for n in range(rows))
        )
        tracemalloc.start()
        assert add_jobs(database, path, created_by="ana").rows == rows
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    small, large = peak_bytes(2 * intake.BATCH_ROWS), peak_bytes(4 * intake.BATCH_ROWS)
    assert large < small * 1.3


def test_details_are_bounded_and_counts_are_whole(database: Database) -> None:
    rows = intake.DETAILS_KEPT + 500
    result = add(database, "topic,priority\n" + "".join(f"Tea {n},bad\n" for n in range(rows)))
    assert (result.rejected, len(result.rejected_rows)) == (rows, intake.DETAILS_KEPT)


def test_the_example_topics_are_forty_or_more_and_none_is_rejected(database: Database) -> None:
    result = add_jobs(database, PROJECT_DIRECTORY / "examples" / "topics.csv", created_by="ana")
    assert result.added >= 40
    assert (result.duplicates, result.rejected, result.warnings) == (0, 0, [])
    assert 5 <= len(set(stored(database, "category"))) <= 6


# properties

cells = st.text(
    st.one_of(
        st.sampled_from("\",;\t|\n\r\x00'=é \u2028\ud800"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)


@st.composite
def csv_files(draw: st.DrawFn) -> tuple[bytes, str, list[tuple[int, list[str]]]]:
    """A well-formed file, its delimiter, and its rows with the physical line each begins on."""
    delimiter = draw(st.sampled_from(",;\t|"))
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    rows = draw(st.lists(st.lists(cells, min_size=3, max_size=3), max_size=8))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(["topic", "category", "tone"])
    expected = []
    for row in rows:
        line = len(text.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        expected.append((line, row))
        writer.writerow(row)
    return text.getvalue().encode("utf-8", "surrogatepass"), delimiter, expected


@given(csv_files())
def test_a_well_formed_file_gives_its_rows_and_their_physical_lines(
    file: tuple[bytes, str, list[tuple[int, list[str]]]],
) -> None:
    content, _, expected = file
    found = [
        (row.line, list(row.values.values())) for row in read(content) if isinstance(row, FileRow)
    ]
    sound = [
        (line, cells) for line, cells in expected if any(cells) and "\ud800" not in "".join(cells)
    ]
    assert [
        each for each in found if not any("\udc80" <= c <= "\udcff" for c in "".join(each[1]))
    ] == sound


@given(st.binary(max_size=300))
def test_any_bytes_are_read_to_the_end_in_order_and_without_an_unexpected_error(
    content: bytes,
) -> None:
    for head in (b"topic\n", b"topic;tone\n", b""):
        try:
            rows = read(head + content)
        except UsageError:
            continue
        lines = [row.line for row in rows]
        assert lines == sorted(set(lines))
        physical = (head + content).count(b"\n") + (head + content).count(b"\r") + 1
        assert all(1 <= line <= physical for line in lines)


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(file=csv_files())
def test_rows_in_are_added_and_duplicates_and_rejected(
    database: Database, file: tuple[bytes, str, list[tuple[int, list[str]]]]
) -> None:
    content, _, expected = file
    result = add(database, content)
    rows = sum(1 for _, row in expected if any(row))
    assert result.added + result.duplicates + result.rejected == rows
    again = add(database, content)
    assert (again.added, again.duplicates, again.rejected) == (
        0, result.added + result.duplicates, result.rejected,
    )  # fmt: skip


@given(
    st.lists(st.one_of(cells, st.integers(), st.none(), st.dictionaries(cells, cells)), max_size=5)
)
def test_any_json_lines_give_a_row_or_a_reason_each(values: list[Any]) -> None:
    content = "\n".join(json.dumps(value) for value in values)
    assert [row.line for row in read(content, file_format="jsonl")] == list(
        range(1, len(values) + 1)
    )
