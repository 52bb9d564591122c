"""All that can be staged: the catalogue's faults, pairs of them, scenes that only look alarming, causes that no
rule knows, and what cannot be staged here, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from runbook_lib.rehearsal.compounds import COMPOUNDS
from runbook_lib.rehearsal.configuration_faults import CONFIGURATION_FAULTS
from runbook_lib.rehearsal.database_faults import DATABASE_FAULTS
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.healthy_scenes import HEALTHY
from runbook_lib.rehearsal.network_faults import NETWORK_FAULTS
from runbook_lib.rehearsal.provider_faults import PROVIDER_FAULTS
from runbook_lib.rehearsal.server_faults import SERVER_FAULTS
from runbook_lib.rehearsal.time_faults import CLOCKS_NOT_STAGED, TIME_FAULTS
from runbook_lib.rehearsal.unknown_faults import UNKNOWN
from runbook_lib.rehearsal.worker_faults import WORKER_FAULTS

__all__ = [
    "BY_NAME",
    "CATALOGUE",
    "COMPOUNDS",
    "HEALTHY",
    "NOT_STAGED",
    "UNKNOWN",
]

CATALOGUE: tuple[Fault, ...] = (
    *SERVER_FAULTS,
    *DATABASE_FAULTS,
    *PROVIDER_FAULTS,
    *NETWORK_FAULTS,
    *WORKER_FAULTS,
    *TIME_FAULTS,
    *CONFIGURATION_FAULTS,
)
BY_NAME: Mapping[str, Fault] = {fault.name: fault for fault in (*CATALOGUE, *COMPOUNDS)}

NOT_STAGED: Mapping[str, str] = {
    "openai-key-malformed": "the settings refuse such a key before anything starts",
    **CLOCKS_NOT_STAGED,
}
