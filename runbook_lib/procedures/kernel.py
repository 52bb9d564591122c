"""The process in which a notebook's cells run: an IPython kernel from which no known secret leaves.

Whatever a kernel says goes through one function, which packs a message's content: prints, displays,
tracebacks, errors, replies. There it is masked. What is printed in two parts is held back until it is
clear that it does not begin a secret.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from functools import lru_cache
from typing import Any

from ipykernel.iostream import OutStream
from jupyter_client.session import json_packer, json_unpacker

from runbook_lib import known_secrets
from runbook_lib.credentials.masking import redacted

_THIS = "runbook_lib.procedures.kernel"


def pack(content: Any) -> bytes:
    """A message's part as bytes, without secrets."""
    return json_packer(redacted(content))


def unpack(data: bytes) -> Any:
    return json_unpacker(data)


class RedactingStream(OutStream):
    """Standard output or error of the cells: what may be the beginning of a secret waits for the rest."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # What a cell's own subprocess writes comes here and, as it is, to where our output went before.
        if (before := getattr(self, "_original_stdstream_copy", None)) is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, before, inheritable=False)
            os.close(nowhere)
        self._held = ""
        self._holding = threading.Lock()

    def write(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() takes a text, not {type(string).__name__}")
        with self._holding:
            text = self._held + string
            length = held_back(text)
            self._held = text[len(text) - length :]
            if shown := text[: len(text) - length]:
                super().write(shown)
        return len(string)

    def release(self) -> None:
        """Says what was held back: the cell has ended, and nothing follows."""
        with self._holding:
            held, self._held = self._held, ""
            if held:
                super().write(held)


def held_back(text: str) -> int:
    """How many characters at the end of the text are the beginning of a known secret."""
    beginnings, longest = _beginnings(known_secrets.forms())
    for length in range(min(longest, len(text)), 0, -1):
        if text[-length:] in beginnings:
            return length
    return 0


@lru_cache(maxsize=1)
def _beginnings(forms: tuple[str, ...]) -> tuple[frozenset[str], int]:
    found = {form[:length] for form in forms for length in range(1, len(form))}
    return frozenset(found), max(map(len, found), default=0)


def leave_out_the_debugger() -> None:
    """Imports ipykernel's debugger without debugpy, which takes longer than all the rest of a start."""
    name = "debugpy.server"
    if "ipykernel.debugger" not in sys.modules and name not in sys.modules:
        sys.modules[name] = None  # type: ignore[assignment]
        try:
            importlib.import_module("ipykernel.debugger")
        finally:
            del sys.modules[name]


def launch(connection_file: str) -> None:
    """Runs the kernel until it is told to shut down or its parent ends."""
    leave_out_the_debugger()
    from ipykernel.kernelapp import IPKernelApp
    from traitlets.config import Config

    config = Config()
    config.IPKernelApp.connection_file = connection_file
    config.IPKernelApp.parent_handle = os.getppid()
    config.IPKernelApp.outstream_class = f"{_THIS}.RedactingStream"
    config.Session.packer, config.Session.unpacker = f"{_THIS}.pack", f"{_THIS}.unpack"
    config.HistoryManager.enabled = False
    application: Any = IPKernelApp.instance(config=config)
    application.initialize([])
    application.shell.events.register("post_execute", _release)
    application.start()


def _release() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, RedactingStream):
            stream.release()


def make_secrets_known() -> None:
    """Loads the settings of this process, so that their secrets are masked from here on."""
    from runbook_lib.errors import RunbookError
    from runbook_lib.settings import load_settings

    try:
        load_settings()
    except RunbookError:
        pass  # Whoever started us knows its secrets as well and redacts the finished file.


class ForkedKernel:
    """A kernel that is forked before this process has threads or sockets, and launched later."""

    def __init__(self) -> None:
        from runbook_lib.procedures.forked import die_with_parent

        reading, self._writing = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid:
            os.close(reading)
            return
        os.close(self._writing)
        os.setsid()
        die_with_parent()
        if os.getppid() == parent:
            _wait_and_launch(reading)
        os._exit(1)

    def launch(self, connection_file: str, directory: str) -> None:
        request = {"connection_file": connection_file, "directory": directory}
        os.write(self._writing, json.dumps(request).encode())
        os.close(self._writing)


def _wait_and_launch(descriptor: int) -> None:
    """In the forked process: waits until it is told where to listen."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, 64)
    make_secrets_known()
    request = b"".join(iter(lambda: os.read(descriptor, 4096), b""))
    os.close(descriptor)
    if not request:
        return
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    found = json.loads(request)
    os.chdir(found["directory"])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        launch(found["connection_file"])
    except BaseException:
        import traceback

        traceback.print_exc()


def main() -> int:
    """The plain start: `python -m runbook_lib.procedures.kernel CONNECTION_FILE`."""
    from runbook_lib.procedures.forked import die_with_parent

    die_with_parent()
    make_secrets_known()
    launch(sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
