"""Rehearsals: faults staged for real on a disposable system, to practise on and to score triage by.

`scene.py` is the system: a database, the sandbox, workers, a past with noise. `faults.py` is the catalogue:
a fault is one declaration, how it is staged, what shows that it took hold, what the engineer is told, and
which causes are the truth. `keeper.py` keeps the system of a practice up; `practice.py` begins, checks and
ends one.
"""
