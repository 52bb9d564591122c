"""Templates of failures in the database, so that all processes give the same cause the same id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runbook_lib.credentials.masking import mask
from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load as load_statements
from runbook_lib.pipeline.fingerprints import RULESET, Template, TemplateTree
from runbook_lib.pipeline.jobs import plain_text

LONGEST_SAMPLE_CHARACTERS = 500
# A row bears the time at which its transaction began: what commits later must not be missed.
LONGEST_TRANSACTION = timedelta(minutes=5)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_SQL = load_statements("failure_templates")


def learn(
    transaction: Transaction, tree: TemplateTree, changed_since: datetime | None = None
) -> datetime:
    """Takes in what was stored since a moment (default: all); returns the moment for the next time."""
    rows = transaction.rows(
        _SQL["load_templates"], ruleset=RULESET, changed_since=changed_since or _BEGINNING
    )
    tree.learn(
        Template(
            row.fingerprint, row.key, tuple(row.words), row.error_class, row.sample, row.joined
        )
        for row in rows
    )
    newest = max((row.changed_at for row in rows), default=None)
    return newest - LONGEST_TRANSACTION if newest else changed_since or _BEGINNING


def save(transaction: Transaction, tree: TemplateTree) -> list[Template]:
    """Stores what the tree learned; call `tree.saved` with the answer once it is committed."""
    learned = sorted(tree.unsaved(), key=lambda template: template.fingerprint)
    for template in learned:
        transaction.run(
            _SQL["save_template"],
            fingerprint=template.fingerprint,
            ruleset=RULESET,
            key=plain_text(template.key),
            words=[plain_text(word) for word in template.words],
            error_class=template.error_class,
            sample=plain_text(mask(template.sample))[:LONGEST_SAMPLE_CHARACTERS],
            joined=template.joined,
        )
    return learned
