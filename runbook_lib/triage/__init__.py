"""Triage: from evidence to the cause and the first safe action.

`evidence.py` asks everything at once under deadlines and changes nothing. `*_facts.py` turn what was
answered into facts: short statements that hold, do not hold or are not known, each with its figure and
the statement or probe that it came from. `causes.py` is the catalogue: what each cause predicts of the
facts. `judgement.py` compares the two. `diagnosis.py` puts the answer together.

**Adding a cause** is one declaration in `causes.py`, of facts that exist. Where evidence is missing, it is
one more fact; and one fault in the rehearsals shows that the cause is told from those it looks like.
"""
