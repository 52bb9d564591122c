"""Which module defines which kind of change, so that one that is named is found wherever it is asked for."""

from __future__ import annotations

# The kind's name → the module that registers it when it is imported. They stand in higher rooms, which
# this one must not import by itself: it does so when the kind is asked for.
KIND_MODULES = {
    "jobs.retry": "runbook_lib.pipeline.retries",
    "jobs.unretry": "runbook_lib.pipeline.retries",
    "jobs.sweep": "runbook_lib.pipeline.sweeping",
    "jobs.quarantine": "runbook_lib.pipeline.quarantine",
    "jobs.unquarantine": "runbook_lib.pipeline.quarantine",
    "jobs.use_category": "runbook_lib.pipeline.category_changes",
    "jobs.own_category": "runbook_lib.pipeline.category_changes",
    "workers.drain": "runbook_lib.pipeline.worker_changes",
    "workers.undrain": "runbook_lib.pipeline.worker_changes",
    "provider.pause": "runbook_lib.pipeline.brake_changes",
    "provider.unpause": "runbook_lib.pipeline.brake_changes",
    "limits.lower": "runbook_lib.pipeline.brake_changes",
    "limits.restore": "runbook_lib.pipeline.brake_changes",
    "posts.unpublish": "runbook_lib.pipeline.posts",
    "posts.republish": "runbook_lib.pipeline.posts",
    "posts.trash": "runbook_lib.pipeline.posts",
    "posts.restore": "runbook_lib.pipeline.posts",
    "sweeper.call": "runbook_lib.health.remote_sweeper",
    "job_runs.clean_up": "runbook_lib.maintenance.clean_up",
    "indexes.create": "runbook_lib.maintenance.index_changes",
    "indexes.drop": "runbook_lib.maintenance.index_changes",
    "sessions.end": "runbook_lib.maintenance.sessions",
    "sessions.end_idle": "runbook_lib.maintenance.sessions",
    "statistics.analyze": "runbook_lib.maintenance.statistics",
    "archive.prune": "runbook_lib.archive.retention",
}

# What else is recorded in `admin_actions` and done at once, without a plan.
OTHER_ACTIONS = (
    "acknowledge_alert",
    "checklist.tick",
    "checklist.untick",
    "db.grants",
    "db.migrate",
    "jobs.cancel",
    "limits.set",
    "pause",
    "resume",
    "schedule.pause",
    "schedule.resume",
    "secrets.activate",
    "secrets.generate",
    "secrets.retire",
    "sweep",
    "test.openai",
    "test.wordpress",
)
