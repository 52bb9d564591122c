-- Which credentials workers use, by handle. A handle says nothing of the value.

-- name → {handle, origin, used_at}, at the last sign of life.
ALTER TABLE workers ADD COLUMN credentials jsonb NOT NULL DEFAULT '{}';

-- Since when a credential of this handle has been in use, for its age.
CREATE TABLE credential_handles (
    name          text        NOT NULL,
    handle        text        NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, handle)
);

SELECT hide_from_data_api('credential_handles');
