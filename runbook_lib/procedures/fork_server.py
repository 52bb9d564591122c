"""A process that has imported what runs and notebooks need, and forks itself for each of them.

Importing pandas, matplotlib and papermill is nine tenths of what a report costs. A fork has them at
once, and shares their memory. What is forked must be whole: the process has one thread, no connection
to a database and no socket but the one on which it is asked, and it holds no secret: environment,
working directory and open files come with each request, from a process of the same user.

`python -m runbook_lib.procedures.fork_server DIRECTORY` serves as the shared process of a directory
(see `runbook_lib/processes.py`). Its service is one child, which does the importing and the forking.
When the code on disk is no longer what it imported, that child is retired and another one started.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.procedures.forked import perform

MODULE = "runbook_lib.procedures.fork_server"
LINGER_SECONDS = 30.0
LONGEST_REQUEST_BYTES = 4_000_000
MOST_FILES = 8
# task → where its function is; it gets the request's arguments and the files beyond standard error.
TASKS = {
    "execute": "runbook_lib.procedures.engine:execute_forked",
    "run": "runbook_lib.cli.handing_over:run_forked",
}
_PACKAGE = Path(__file__).resolve().parent.parent
_IMPORTED = (
    "papermill",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.kernelspec",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "tornado.platform.asyncio",
    "pandas",
    "pandas.io.formats.html",
    "pandas.io.formats.string",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "psycopg2.extras",
    "nbconvert",
    "nh3",
    "jinja2",
    "pygments.formatters",
    "pygments.lexers.python",
    "runbook_lib.archive.rendering",
    "runbook_lib.procedures.kernel",
    "runbook_lib.procedures.engine",
    "runbook_lib.procedures.runner",
    "runbook_lib.cli",
    "runbook_lib.cli.handing_over",
    "runbook_lib.cli.procedures",
)


def code_stamp(package: Path = _PACKAGE) -> str:
    """What changes when the code that was imported changes: ours, or what is installed."""
    newest, size, count = 0, 0, 0
    for path in _code_files(package):
        found = path.stat()
        newest, size, count = max(newest, found.st_mtime_ns), size + found.st_size, count + 1
    for folder in map(Path, sys.path):
        if folder.name == "site-packages" and folder.is_dir():
            newest = max(newest, folder.stat().st_mtime_ns)
    return f"{newest}-{size}-{count}"


def _code_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    yield from _code_files(Path(entry.path))
            elif entry.name.endswith((".py", ".sql", ".j2", ".css")):
                yield entry


@dataclass
class _Task:
    """One request: what is run, with which environment, in which directory, with which files."""

    name: str
    arguments: dict[str, Any]
    environment: dict[str, str]
    directory: str
    files: list[int]


@dataclass
class _Client:
    """Whoever asked, and the process that was forked for it."""

    connection: socket.socket
    received: bytes = b""
    files: list[int] = field(default_factory=list)
    pid: int | None = None
    ends_with_client: bool = False


class Forks:
    """The child that imports, listens and forks. `serve` returns a task in each forked process."""

    def __init__(self, path: Path) -> None:
        self._stamp = code_stamp()
        for name in _IMPORTED:
            importlib.import_module(name)
        import runbook_lib

        for name in runbook_lib.NOTEBOOK_NAMES:
            getattr(runbook_lib, name)
        _warm()
        _check_that_forking_is_safe()
        self._path = path
        self._listener: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._clients: dict[int, _Client] = {}
        self._wake_reading, self._wake_writing = os.pipe()
        for descriptor in (self._wake_reading, self._wake_writing):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wake_writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        # Collections would write to what is shared, and so copy it.
        gc.freeze()

    def serve(self) -> _Task | None:
        """Forks until nobody needs it; returns None then, and the task in each forked process."""
        assert self._listener is not None
        self._selector.register(self._listener, selectors.EVENT_READ, "listener")
        self._selector.register(self._wake_reading, selectors.EVENT_READ, "child")
        self._selector.register(0, selectors.EVENT_READ, "supervisor")
        while self._listener is not None or self._clients:
            for key, _ in self._selector.select():
                if key.data == "listener" and self._listener is not None:
                    self._accept()
                elif key.data == "child":
                    self._reap()
                elif key.data == "supervisor":
                    self._selector.unregister(0)
                    self._retire()
                elif isinstance(key.data, _Client) and (task := self._hear(key.data)):
                    return task
        return None

    def _accept(self) -> None:
        assert self._listener is not None
        connection, _ = self._listener.accept()
        if not _same_user(connection):
            connection.close()
            return
        connection.settimeout(5)
        client = _Client(connection)
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _hear(self, client: _Client) -> _Task | None:
        try:
            data, files, _, _ = socket.recv_fds(client.connection, 65536, MOST_FILES)
        except OSError:
            data, files = b"", []
        client.files += files
        client.received += data
        if not data:
            self._gone(client)
        elif client.pid is None and client.received.endswith(b"\n"):
            return self._fork(client)
        elif len(client.received) > LONGEST_REQUEST_BYTES:
            self._forget(client)
        return None

    def _fork(self, client: _Client) -> _Task | None:
        """Forks for a request; returns the task in the forked process."""
        if code_stamp() != self._stamp:
            self._tell(client, renewed=True)
            self._forget(client)
            self._retire()
            return None
        try:
            asked = json.loads(client.received)
            task = _Task(asked["task"], asked["arguments"], asked["environment"],
                         asked["directory"], client.files)  # fmt: skip
            assert task.name in TASKS
            assert len(task.files) >= 3
        except (ValueError, KeyError, TypeError, AssertionError):
            self._forget(client)
            return None
        client.received, client.ends_with_client = b"", asked.get("ends_with_client", False)
        pid = os.fork()
        if pid == 0:
            self._leave()
            return task
        client.pid = pid
        for descriptor in client.files:
            os.close(descriptor)
        client.files = []
        self._tell(client, pid=pid)
        return None

    def _leave(self) -> None:
        """In the forked process: lets go of everything that is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        if self._listener is not None:
            self._listener.close()
        os.close(self._wake_reading)
        os.close(self._wake_writing)
        for client in self._clients.values():
            client.connection.close()

    def _gone(self, client: _Client) -> None:
        """The client's end is the end of what was forked for it, where it asked for that."""
        if client.pid is not None and client.ends_with_client:
            try:
                os.kill(client.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        if client.pid is None:
            self._forget(client)
        else:
            # Kept until the child is reaped, so that retiring waits for it.
            self._selector.unregister(client.connection)

    def _reap(self) -> None:
        try:
            os.read(self._wake_reading, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for client in [each for each in self._clients.values() if each.pid == pid]:
                self._tell(client, status=os.waitstatus_to_exitcode(status))
                self._forget(client)

    def _tell(self, client: _Client, **message: Any) -> None:
        try:
            client.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass

    def _forget(self, client: _Client) -> None:
        del self._clients[client.connection.fileno()]
        try:
            self._selector.unregister(client.connection)
        except KeyError:
            pass
        client.connection.close()
        for descriptor in client.files:
            os.close(descriptor)

    def _retire(self) -> None:
        """Takes nothing new; ends once what was forked has ended. Its supervisor starts another one."""
        if self._listener is None:
            return
        self._selector.unregister(self._listener)
        self._listener.close()
        self._listener = None
        self._path.unlink(missing_ok=True)
        # Standard output is the pipe by which the supervisor sees that this one serves.
        os.dup2(2, 1)


def _warm() -> None:
    """Does once what is otherwise done at the first use in each forked process."""
    from jupyter_client.provisioning import KernelProvisionerFactory

    from runbook_lib.archive.rendering import warm
    from runbook_lib.procedures.kernel import leave_out_the_debugger
    from runbook_lib.procedures.records import package_versions

    leave_out_the_debugger()
    _draw()
    KernelProvisionerFactory.instance()
    package_versions()
    warm()


def _draw() -> None:
    """A chart as pandas draws it: fonts and the parts that are imported late are half of its time."""
    import matplotlib.pyplot
    import pandas

    axes: Any = pandas.DataFrame({"x": [1, 2], "y": [1, 2]}).plot(x="x", y="y")
    axes.figure.savefig(io.BytesIO(), format="png")
    axes.figure.savefig(io.StringIO(), format="svg")
    matplotlib.pyplot.close("all")


def _check_that_forking_is_safe() -> None:
    threads = len(os.listdir("/proc/self/task"))
    opened = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
              if os.path.lexists(f"/proc/self/fd/{number}")]  # fmt: skip
    sockets = [name for name in opened if name.startswith("socket:")]
    if threads != 1 or sockets:
        raise SystemExit(
            f"importing left {threads} threads and {len(sockets)} sockets; forking is not safe"
        )


def _same_user(connection: socket.socket) -> bool:
    asked = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", asked)[1] == os.geteuid())


class _Service:
    """The supervisor's side: starts the child, and sees when it no longer serves."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._child: subprocess.Popen[bytes] | None = None
        self._retired: list[subprocess.Popen[bytes]] = []
        self._sockets = Path(tempfile.mkdtemp(prefix="rb-"))
        self._count = 0

    def start(self) -> dict[str, Any]:
        if self._child is not None:
            self._retire()
        self._count += 1
        path = self._sockets / f"s{self._count}"
        environment = {**os.environ, "MPLBACKEND": "Agg", **dict.fromkeys(
            ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}  # fmt: skip
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, "--forks", str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        )  # fmt: skip
        assert self._child.stdout is not None
        if self._child.stdout.readline() != b"ready\n":
            raise SystemExit(f"importing ended with status {self._child.wait()}")
        os.set_blocking(self._child.stdout.fileno(), False)
        return {"socket": str(path), "server_pid": self._child.pid}

    def alive(self) -> bool:
        self._retired = [each for each in self._retired if each.poll() is None]
        assert self._child is not None
        assert self._child.stdout is not None
        return self._child.stdout.read(1) is None  # b"" once nobody holds the other end

    def stop(self) -> None:
        if self._child is not None:
            self._retire()
        for path in self._sockets.iterdir():
            path.unlink()
        self._sockets.rmdir()

    def _retire(self) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdout.close()
        self._retired.append(self._child)


def main() -> int:
    """The supervisor, or with `--forks` its child."""
    from runbook_lib.processes import serve

    if sys.argv[1] == "--forks":
        os.umask(0o077)
        forks = Forks(Path(sys.argv[2]))
        os.write(1, b"ready\n")
        task = forks.serve()
        if task is not None:
            perform(TASKS[task.name], task.arguments, task.environment, task.directory, task.files)
        return 0
    service = _Service(Path(sys.argv[1]))
    return serve(
        Path(sys.argv[1]), service.start, service.stop, service.alive, linger_seconds=LINGER_SECONDS
    )


if __name__ == "__main__":
    sys.exit(main())
