"""What incidents are driven with: real Jupyter kernels in working copies, as a lab starts them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT_SECONDS = 120.0


class Kernel:
    """One kernel of the environment's kernelspec; its cells are executed with their ids, as JupyterLab does."""

    def __init__(self, notebook: Path, environment: Mapping[str, str], *, named: bool) -> None:
        from jupyter_client.manager import KernelManager

        self.notebook = notebook
        self._manager = KernelManager(kernel_name="python3")
        session = {"JPY_SESSION_NAME": str(notebook)} if named else {}
        self._manager.start_kernel(
            cwd=str(notebook.parent), env={**os.environ, **environment, **session},
            stdout=-3, stderr=-3,
        )  # fmt: skip
        self._client = self._manager.client()
        self._client.start_channels()
        self._ready = False

    def cells(self) -> list[dict[str, Any]]:
        """The code cells of the notebook as it stands on disk."""
        return [cell for cell in self._read()["cells"] if cell["cell_type"] == "code"]

    def execute(self, number: int, *, save: bool = True) -> str:
        """Executes the nth code cell; returns ok, error, or died."""
        if not self._ready:
            # Not when it is started: several start beside each other.
            self._client.wait_for_ready(WAIT_SECONDS)
            self._ready = True
        cell = self.cells()[number - 1]
        content = {
            "code": "".join(cell["source"]), "silent": False, "store_history": True,
            "user_expressions": {}, "allow_stdin": False, "stop_on_error": True,
        }  # fmt: skip
        session = self._client.session
        request = session.msg("execute_request", content, metadata={"cellId": cell["id"]})
        self._client.shell_channel.send(request)
        outputs = self._outputs_of(request["header"]["msg_id"])
        if outputs is None:
            return "died"
        if save:
            self._save(cell["id"], outputs)
        return "error" if any(each["output_type"] == "error" for each in outputs) else "ok"

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def kill(self) -> None:
        """As the machine's out-of-memory killer does."""
        os.kill(self.pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        pid: int = self._manager.provisioner.pid  # type: ignore[union-attr]
        return pid

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def _outputs_of(self, request: str) -> list[dict[str, Any]] | None:
        """What the kernel shows until the cell has ended; None when it dies meanwhile."""
        from queue import Empty

        outputs: list[dict[str, Any]] = []
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=0.5)
            except Empty:
                if not self._manager.is_alive():
                    return None
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return outputs
            if kind in ("stream", "display_data", "execute_result", "error"):
                outputs.append({"output_type": kind, **content})

    def _save(self, cell_id: str, outputs: list[dict[str, Any]]) -> None:
        notebook = self._read()
        for cell in notebook["cells"]:
            if cell["id"] == cell_id:
                for each in outputs:
                    each.pop("transient", None)
                cell["outputs"], cell["execution_count"] = outputs, 1
        self.notebook.write_text(json.dumps(notebook))

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.notebook.read_text("utf-8"))
        return found


@contextmanager
def running_kernel(
    notebook: Path, environment: Mapping[str, str], *, named: bool = True
) -> Iterator[Kernel]:
    """A kernel beside a notebook; `named` as a Jupyter server tells it which one it is."""
    kernel = Kernel(notebook, environment, named=named)
    try:
        yield kernel
    finally:
        kernel.close()
