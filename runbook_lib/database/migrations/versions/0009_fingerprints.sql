-- Failures by fingerprint.

-- One row a cause: its hard facts, its text with gaps, and a sample. `joined` names an earlier one that
-- turned out to be the same cause.
CREATE TABLE failure_templates (
    fingerprint text        NOT NULL PRIMARY KEY,
    ruleset     integer     NOT NULL,
    key         text        NOT NULL,
    words       text[]      NOT NULL,
    error_class text,
    sample      text        NOT NULL,
    joined      text,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX failure_templates_changed_at ON failure_templates (changed_at);

SELECT hide_from_data_api('failure_templates');
