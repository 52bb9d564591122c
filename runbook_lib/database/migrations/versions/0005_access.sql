-- Who called the console and the functions: the token's name and the route's template, no values.

CREATE TABLE access_log (
    access_id    bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz      NOT NULL DEFAULT now(),
    client       text             NOT NULL,
    token        text             NOT NULL,
    actor        text,
    method       text             NOT NULL,
    route        text             NOT NULL,
    status       integer          NOT NULL,
    outcome      text             NOT NULL CHECK (outcome IN ('served', 'refused', 'failed', 'not kept')),
    milliseconds double precision NOT NULL
);
COMMENT ON COLUMN access_log.token IS 'The name of what let the caller in, such as read token; never its value.';
CREATE INDEX access_log_at ON access_log (at);
CREATE INDEX access_log_refused ON access_log (at) WHERE outcome <> 'served';

SELECT hide_from_data_api('access_log'::regclass);
SELECT hide_from_data_api('access_log_access_id_seq'::regclass);
