"""Both stand-ins and the switchboard under one address."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter

from runbook_lib.sandbox import wire_faults
from runbook_lib.sandbox.faults import OPENAI, WORDPRESS, Faults
from runbook_lib.sandbox.journal import Journal
from runbook_lib.sandbox.messages import Request, Response
from runbook_lib.sandbox.openai_api import OpenAI
from runbook_lib.sandbox.storage import Storage
from runbook_lib.sandbox.switchboard import Switchboard
from runbook_lib.sandbox.wordpress_api import WordPress


class Application:
    """One request in, one response out, both in the journal."""

    def __init__(self, storage: Storage) -> None:
        self.faults = Faults(storage)
        self.journal = Journal(storage)
        self.openai = OpenAI(storage)
        self.wordpress = WordPress(storage)
        self._under_way: Counter[str] = Counter()
        self._switchboard = Switchboard(storage, self.faults, self.journal, self.wordpress)

    async def __call__(self, request: Request) -> Response:
        if request.path == "/_sandbox" or request.path.startswith("/_sandbox/"):
            return self._switchboard.answer(request)
        provider = OPENAI if request.path == "/v1" or request.path.startswith("/v1/") else WORDPRESS
        entry = self.journal.begin(provider, request)
        self._under_way[provider] += 1
        struck = self.faults.strike(provider, request, self._under_way[provider])
        entry.fault = struck.names()
        response = Response(500)
        try:
            if provider == OPENAI:
                response = self.openai.answer(request, struck, entry)
            else:
                response = await self.wordpress.answer(request, struck, entry)
            await asyncio.sleep(wire_faults.delay_seconds(struck.fault))
        except Exception:
            # A fault of the sandbox itself: said in its log, and to the client as what it is.
            traceback.print_exc()
            response = Response.of_html(500, "The sandbox failed; its log holds the traceback.")
        finally:
            self._under_way[provider] -= 1
            self.journal.end(entry, response.status or None)
        return response
