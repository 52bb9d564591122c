-- Rehearsals: which procedure was proven on which staged fault, by whom, in how many minutes.
CREATE TABLE rehearsals (
    rehearsal_id uuid        NOT NULL DEFAULT time_ordered_uuid() PRIMARY KEY,
    fault        text        NOT NULL,
    procedure    text        NOT NULL,
    actor        text        NOT NULL,
    begun_at     timestamptz NOT NULL,
    ended_at     timestamptz NOT NULL DEFAULT now(),
    result       text        NOT NULL CHECK (result IN ('passed', 'failed', 'abandoned')),
    found        text[]      NOT NULL DEFAULT '{}',
    truth        text[]      NOT NULL,
    seconds_to_found double precision,
    details      jsonb       NOT NULL DEFAULT '{}'
);
COMMENT ON COLUMN rehearsals.found IS 'The causes that the person named, in their order; truth is what was staged.';
CREATE INDEX rehearsals_procedure ON rehearsals (procedure, ended_at);
SELECT hide_from_data_api('rehearsals');
