"""Handles: what a secret value is called where it must not be shown."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from urllib.parse import urlsplit

_LENGTH_BYTES = 5
# Made slow on purpose: a database password may be short, and nobody should find it by trying.
_COST, _BLOCK, _LANES = 2**13, 8, 1


@lru_cache(maxsize=64)
def handle_of(name: str, value: str) -> str:
    """The handle of a value: the same on every host, and nothing of the value can be read from it.

    Of an address it is that of user and password, since the rest is no secret and does not rotate; an
    application password has one handle with and without its spaces.
    """
    if name.endswith("DATABASE_URL"):
        value = urlsplit(value.strip()).netloc.rpartition("@")[0]
    elif name == "WORDPRESS_APP_PASSWORD":
        value = "".join(value.split())
    digest = hashlib.scrypt(
        value.encode("utf-8", "surrogatepass"), salt=f"runbook {name}".encode(),
        n=_COST, r=_BLOCK, p=_LANES, dklen=_LENGTH_BYTES,
    )  # fmt: skip
    return f"h-{digest.hex()}"
