"""The archive in an object store, through fsspec: S3, Google, Azure, SFTP, memory, whatever is installed."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from runbook_lib import known_secrets
from runbook_lib.archive.store import Store, parts_of
from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import ConfigurationError, CouldNotBeDone, NotFoundError


class ObjectStore(Store):
    """What an fsspec URL names. Keys come from where the store's own package looks for them."""

    readers = 16

    def __init__(self, url: str) -> None:
        import fsspec

        known_secrets.register_address(url, "a password in RUNBOOK_ARCHIVE")
        self.root: str = _without_password(url)
        try:
            self._files, place = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"RUNBOOK_ARCHIVE is {self.root}, which cannot be used: {one_line(str(error), 200)}"
            ) from None
        self._place = place.rstrip("/")
        self._creates_exclusively = True

    def address(self, name: str) -> str:
        parts_of(name)
        return f"{self.root.rstrip('/')}/{name}"

    def names(self) -> Iterator[str]:
        self._files.invalidate_cache()
        try:
            found = self._files.find(self._place)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._failed("cannot be listed", error) from error
        start = len(self._place.lstrip("/")) + 1
        for path in found:
            yield path.lstrip("/")[start:]

    def read(self, name: str) -> bytes:
        try:
            data: bytes = self._files.cat_file(self._path(name))
        except FileNotFoundError:
            raise NotFoundError(f"The archive at {self.root} holds no {name}.") from None
        except Exception as error:
            raise self._failed(f"does not give {name}", error) from error
        return data

    def remove(self, name: str) -> bool:
        try:
            self._files.rm_file(self._path(name))
        except FileNotFoundError:
            return False
        except Exception as error:
            raise self._failed(f"does not remove {name}", error) from error
        return True

    def _write_once(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            self._create(path, data)
        except FileNotFoundError:
            # Not an object store but a far folder (SFTP): there a folder has to be made first.
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._create(path, data)

    def _create(self, path: str, data: bytes) -> None:
        try:
            if self._creates_exclusively:
                self._files.pipe_file(path, data, mode="create")
                return
        except (TypeError, NotImplementedError):
            self._creates_exclusively = False  # This store's package does not know `mode`.
        except OSError:
            raise
        except Exception as error:
            raise OSError(one_line(str(error), 200)) from error
        self._look_then_write(path, data)

    def _look_then_write(self, path: str, data: bytes) -> None:
        try:
            if self._files.exists(path):
                raise FileExistsError(path)
            self._files.pipe_file(path, data)
            if self._files.cat_file(path) != data:
                raise OSError("somebody else wrote that name in the same instant")
        except OSError:
            raise
        except Exception as error:
            raise OSError(one_line(str(error), 200)) from error

    def _path(self, name: str) -> str:
        return "/".join([self._place, *parts_of(name)])

    def _failed(self, what: str, error: Exception) -> CouldNotBeDone:
        # Each package of fsspec has errors of its own; some stores answer with the request's address.
        reason = one_line(f"{type(error).__name__}: {error}", 200)
        return CouldNotBeDone(f"The archive at {self.root} {what}: {reason}.")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{parts.netloc.rpartition('@')[2]}"))
