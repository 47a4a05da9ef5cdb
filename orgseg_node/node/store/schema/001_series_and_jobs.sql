-- What the node knows. Every change of state is checked against allowed_transition, which is filled from
-- model.py when the node starts, and appended to event by a trigger. Times are UTC, ISO 8601.
-- Triggers, and the table event they fill, differ between databases: each has a file of its own in this folder.

CREATE TABLE allowed_transition (
    kind TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    PRIMARY KEY (kind, source, target)
);

CREATE TABLE series (
    series_uid TEXT PRIMARY KEY CHECK (length(series_uid) BETWEEN 1 AND 64),
    state TEXT NOT NULL CHECK (state IN ('RECEIVING', 'READY', 'HOLD', 'IGNORED', 'CONFLICT')),
    reason TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    revision BIGINT NOT NULL DEFAULT 1 CHECK (revision >= 1),
    calling_ae TEXT NOT NULL,
    created_at TEXT NOT NULL,
    last_received_at TEXT NOT NULL,
    CHECK (state NOT IN ('HOLD', 'IGNORED', 'CONFLICT') OR reason <> '')
);

CREATE TABLE instance (
    sop_uid TEXT NOT NULL CHECK (length(sop_uid) BETWEEN 1 AND 64),
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    series_uid TEXT NOT NULL REFERENCES series,
    size BIGINT NOT NULL CHECK (size > 0),
    path TEXT NOT NULL UNIQUE,
    transfer_syntax TEXT NOT NULL,
    calling_ae TEXT NOT NULL,
    received_at TEXT NOT NULL,
    PRIMARY KEY (sop_uid, sha256)
);
CREATE INDEX instance_by_series ON instance (series_uid);

CREATE TABLE job (
    job_id TEXT PRIMARY KEY CHECK (length(job_id) = 16),
    series_uid TEXT NOT NULL REFERENCES series,
    revision BIGINT NOT NULL,
    content_sha256 TEXT NOT NULL CHECK (length(content_sha256) = 64),
    bundles TEXT NOT NULL,
    slices BIGINT NOT NULL CHECK (slices > 0),
    state TEXT NOT NULL CHECK (state IN (
        'QUEUED', 'PREPARING', 'INFERRING', 'WRITING', 'CHECKING', 'REVIEW', 'SENDING', 'DONE',
        'RETRY_WAIT', 'FAILED', 'CANCELLED', 'SUPERSEDED', 'REJECTED')),
    run BIGINT NOT NULL DEFAULT 1 CHECK (run >= 1),
    progress DOUBLE PRECISION NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    stage TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    purged_at TEXT,
    CHECK (state <> 'FAILED' OR (reason <> '' AND note <> ''))
);
CREATE UNIQUE INDEX one_computing_job_per_series ON job (series_uid) WHERE state IN (
    'QUEUED', 'PREPARING', 'INFERRING', 'WRITING', 'CHECKING', 'REVIEW', 'RETRY_WAIT');
CREATE INDEX job_by_state ON job (state);

CREATE TABLE delivery (
    job_id TEXT NOT NULL REFERENCES job,
    role TEXT NOT NULL,
    destination TEXT NOT NULL,
    path TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN (
        'PENDING', 'SENDING', 'STORED', 'COMMITTED', 'RETRY_WAIT', 'FAILED', 'DROPPED')),
    attempts BIGINT NOT NULL DEFAULT 0,
    status BIGINT,
    note TEXT NOT NULL DEFAULT '',
    next_attempt_at TEXT NOT NULL,
    first_attempt_at TEXT,
    PRIMARY KEY (job_id, role, destination)
);
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE state IN ('PENDING', 'RETRY_WAIT');
