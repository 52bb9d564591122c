"""Running programs that refuse to run as root, without making an account or opening any folder.

PostgreSQL refuses root. In a user namespace root shows as an ordinary account while its files stay
root's (measured: `useradd` and permissions of other folders are not needed). Where namespaces are
off, the account `nobody` runs it.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import ServiceNotStarted

# Whoever is unknown in a namespace shows as this one; root must not look like everybody else there.
_OVERFLOW_ID = 65534
FALLBACK_ACCOUNT = "nobody"


@dataclass(frozen=True)
class OrdinaryUser:
    """How to start a program: what to put in front of it, and which account to switch to."""

    prefix: tuple[str, ...] = ()
    account: pwd.struct_passwd | None = None

    def options(self) -> dict[str, object]:
        """Arguments for `subprocess` that switch the account."""
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Makes this account the owner of a file or folder of ours, with all that is in it."""
        if self.account is not None:
            for each in (path, *path.rglob("*")):
                os.chown(each, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)

    def must_reach(self, folder: Path) -> None:
        """Raises `ServiceNotStarted` when the account cannot enter a folder: we open no doors."""
        if self.account is None:
            return
        closed = [each for each in (folder, *folder.parents) if not self._may_enter(each)]
        if closed:
            raise ServiceNotStarted(
                f"PostgreSQL does not run as root, this machine has no user namespaces, and the account "
                f"{self.account.pw_name} cannot enter {closed[-1]}. Run as an ordinary user, set RUNBOOK_HOME to "
                "a folder that every account may enter, or set DATABASE_URL to a server that runs."
            )

    def _may_enter(self, folder: Path) -> bool:
        assert self.account is not None
        found = folder.stat()
        if found.st_uid == self.account.pw_uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.account.pw_gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def ordinary_user(data: Path) -> OrdinaryUser:
    """How this process starts PostgreSQL for a data folder, which may not exist yet.

    An ordinary account with a name: as it is. Root, or an account without a name: in a user
    namespace. Root without namespaces, or data that belongs to another account: that account.
    """
    root = os.geteuid() == 0
    if not root and _has_name(os.geteuid()):
        return OrdinaryUser()
    if root and data.exists() and data.stat().st_uid != 0:
        return OrdinaryUser(account=pwd.getpwuid(data.stat().st_uid))
    prefix = _namespace()
    if _works(prefix):
        return OrdinaryUser(prefix=prefix)
    return OrdinaryUser(account=pwd.getpwnam(FALLBACK_ACCOUNT)) if root else OrdinaryUser()


def _namespace() -> tuple[str, ...]:
    # The account must have a name: `initdb` looks it up.
    named = [each for each in pwd.getpwall() if each.pw_uid not in (0, _OVERFLOW_ID)]
    shown = named[0] if named else pwd.getpwnam(FALLBACK_ACCOUNT)
    return ("unshare", "-U", f"--map-user={shown.pw_uid}", f"--map-group={shown.pw_gid}")


def _works(prefix: tuple[str, ...]) -> bool:
    try:
        return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _has_name(uid: int) -> bool:
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False
