"""How the engine starts and ends its kernel: forked if it can be, else as a program of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerBase

from runbook_lib.procedures.kernel import ForkedKernel

LOOK_SECONDS = 0.005


class KernelProcess(KernelProvisionerBase):
    """The kernel's process, a child of ours and the leader of a group of its own."""

    parent: Any
    forked: ForkedKernel | None = None
    pid: int | None = None
    _status: int | None = None

    @property
    def has_process(self) -> bool:
        return self.pid is not None

    async def pre_launch(self, **options: Any) -> dict[str, Any]:
        self.parent.write_connection_file()
        self.connection_info = self.parent.get_connection_info()
        return {"cmd": [], **options}

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        file, directory = self.parent.connection_file, options["cwd"]
        if self.forked is not None:
            self.forked.launch(file, directory)
            self.pid = self.forked.pid
        else:
            command = [sys.executable, "-P", "-m", "runbook_lib.procedures.kernel", file]
            self.pid = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, start_new_session=True
            ).pid
        return self.connection_info

    async def poll(self) -> int | None:
        if self._status is None and self.pid is not None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    async def wait(self) -> int | None:
        while await self.poll() is None:
            time.sleep(LOOK_SECONDS)
        self.pid = None
        return self._status

    async def send_signal(self, signum: int) -> None:
        if self.pid is not None and await self.poll() is None:
            os.killpg(self.pid, signum)

    async def kill(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        pass


class Manager(AsyncKernelManager):
    """Starts kernels through a `KernelProcess`, whatever kernels are installed for Jupyter."""

    @classmethod
    def for_sockets(cls, folder: Path, forked: ForkedKernel | None) -> Manager:
        """Sockets stand in a private folder with a short path: no ports that two runs may both
        take, nothing that somebody else on the machine could connect to."""
        manager = cls(
            transport="ipc", ip=str(folder / "k"), connection_file=str(folder / "connection.json")
        )
        process = KernelProcess(parent=manager)
        process.forked = forked
        manager.provisioner = process
        return manager

    def sockets(self) -> list[Path]:
        """The files of the kernel's sockets; it listens once they are there."""
        ports = (self.shell_port, self.iopub_port, self.control_port)
        return [Path(f"{self.ip}-{port}") for port in ports]
