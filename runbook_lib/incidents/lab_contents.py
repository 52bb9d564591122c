"""What the lab reads and writes: working copies both, procedures only the first.

File modes do not do this: for root every file is writable.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError

KEPT = ("notebooks", "own")


def is_kept(path: str) -> bool:
    """Whether a path is of the procedures, which are never changed here."""
    return path.strip("/").split("/")[0] in KEPT


class ProceduresAndCopies(AsyncLargeFileManager):
    """Opens procedures read-only, and refuses whatever would change them."""

    async def get(self, path: str, *arguments: Any, **options: Any) -> Any:
        model = await super().get(path, *arguments, **options)
        if is_kept(path):
            model["writable"] = False
        return model

    async def save(self, model: Any, path: str = "") -> Any:
        _refuse(path)
        return await super().save(model, path)

    async def delete_file(self, path: str) -> None:
        _refuse(path)
        await super().delete_file(path)

    async def rename_file(self, old_path: str, new_path: str) -> None:
        _refuse(old_path)
        _refuse(new_path)
        await super().rename_file(old_path, new_path)

    async def create_checkpoint(self, path: str) -> Any:
        _refuse(path)
        return await super().create_checkpoint(path)

    async def restore_checkpoint(self, checkpoint_id: str, path: str) -> Any:
        _refuse(path)
        return await super().restore_checkpoint(checkpoint_id, path)

    async def trust_notebook(self, path: str) -> Any:
        _refuse(path)
        return await super().trust_notebook(path)


def _refuse(path: str) -> None:
    if is_kept(path):
        raise HTTPError(
            403,
            f"{path} is a procedure, and procedures are not edited in place. `runbook incident open` or "
            "`runbook incident join` makes copies to work in; a change to the procedure itself goes through git.",
        )
