"""Takes secrets out of an executed notebook: known values in every form, then patterns.

A secret printed in two flushes stands in two stream outputs, and a traceback interrupts it with colour
codes; so streams are joined first, and a traceback in which a secret shows once the colours are off
loses its colours.
"""

from __future__ import annotations

import re
from typing import Any

from runbook_lib.credentials.masking import mask, redacted

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def redact_notebook(notebook: Any) -> None:
    """Redacts a notebook in place: sources, outputs, attachments and all metadata."""
    notebook["metadata"] = redacted(notebook["metadata"])
    for cell in notebook["cells"]:
        redact_cell(cell)


def redact_cell(cell: Any) -> None:
    """Redacts one cell in place."""
    cell["source"] = mask(cell["source"])
    cell["metadata"] = redacted(cell["metadata"])
    if "attachments" in cell:
        cell["attachments"] = {
            redacted(name): redacted(bundle) for name, bundle in cell["attachments"].items()
        }
    if "outputs" in cell:
        cell["outputs"] = join_streams(cell["outputs"])
        for output in cell["outputs"]:
            _redact_output(output)


def join_streams(outputs: list[Any]) -> list[Any]:
    """Neighbouring outputs of one stream as one output."""
    joined: list[Any] = []
    for output in outputs:
        before = joined[-1] if joined else None
        if (
            before is not None
            and output["output_type"] == before["output_type"] == "stream"
            and output["name"] == before["name"]
        ):
            before["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def _redact_output(output: Any) -> None:
    kind = output["output_type"]
    if kind == "stream":
        output["text"] = _without_coloured_secrets(output["text"])
    elif kind == "error":
        output["ename"], output["evalue"] = mask(output["ename"]), mask(output["evalue"])
        whole = "\n".join(output["traceback"])
        output["traceback"] = _without_coloured_secrets(whole).split("\n")
    else:
        output["data"] = redacted(output["data"])
        output["metadata"] = redacted(output.get("metadata", {}))


def _without_coloured_secrets(text: str) -> str:
    plain = _COLOURS.sub("", text)
    masked = mask(plain)
    return mask(text) if masked == plain else masked
