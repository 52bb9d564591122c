"""Rehearsals: faults staged for real on a disposable system, to practise on and to score triage by.

`scene.py` is the system: a database, the sandbox, workers, a past with noise. `faults.py` says what a fault
is: one declaration of how it is staged, what shows that it took hold, what the engineer is told, and which
causes are the truth. They stand by what they strike (`server_faults.py`, `database_faults.py`,
`provider_faults.py`, `network_faults.py`, `worker_faults.py`, `time_faults.py`, `configuration_faults.py`),
with `compounds.py`, `healthy_scenes.py` and `unknown_faults.py` beside them, and `catalogue.py` collects them.

What they are staged with: `server.py` is a PostgreSQL that belongs to one scene and may be struck, `roles.py`
ordinary logins, `pooler.py` a PgBouncer, `links.py` proxies in front of what workers call, `certificates.py`
certificates that have ended. `programs.py` runs workers and schedulers as processes and starts them again,
`frail_worker.py` is one to which something happens at certain jobs, `clock.py` makes a process's clock wrong,
and `past.py` a past of weeks. `surroundings.py` are noise and decoys.

A practice: `repertoire.py` is what there is to choose, `practice_cards.py` what is told of each cause. `keeper.py`
keeps its system up; `practice.py` begins and ends one, `outcome.py` compares, `conduct.py` names what did harm,
`records.py` says what was proven when.
"""
