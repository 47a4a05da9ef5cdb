-- What a job has been through, what persons asked for, and what sources say about a series.
-- Times are UTC, ISO 8601.

-- How often a process died under the job. At risk while a child works on it: whoever finds it so knows that
-- the process died.
ALTER TABLE job ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0 CHECK (deaths >= 0);
ALTER TABLE job ADD COLUMN at_risk INTEGER NOT NULL DEFAULT 0 CHECK (at_risk IN (0, 1));
-- How many workflows of this run ended without a result, so that the next one has a number of its own.
ALTER TABLE job ADD COLUMN spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0);
-- The smaller budget it was given after memory ran out.
ALTER TABLE job ADD COLUMN memory_budget_mb INTEGER CHECK (memory_budget_mb >= 1);
-- What the objects must say besides, such as that the series had been contoured before.
ALTER TABLE job ADD COLUMN remark TEXT NOT NULL DEFAULT '';
-- When a destination first had an object of it; stays when the objects are sent again.
ALTER TABLE job ADD COLUMN delivered_at TEXT;
UPDATE job SET delivered_at = updated_at WHERE EXISTS (
    SELECT 1 FROM delivery d WHERE d.job_id = job.job_id AND d.state IN ('STORED', 'COMMITTED'));

-- What the child wrote, with the hash of each file as it was proven.
CREATE TABLE job_object (
    job_id TEXT NOT NULL REFERENCES job,
    role TEXT NOT NULL,
    path TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    PRIMARY KEY (job_id, role)
);

-- Jobs in REVIEW that a person lets go; the node sends them at its next look.
CREATE TABLE approval (
    job_id TEXT PRIMARY KEY REFERENCES job,
    run INTEGER NOT NULL,
    note TEXT NOT NULL,
    at TEXT NOT NULL
);

-- What a person wants of a series: judge it now, for one revision, or let it wait until a time or a release.
CREATE TABLE series_order (
    series_uid TEXT PRIMARY KEY REFERENCES series,
    kind TEXT NOT NULL CHECK (kind IN ('force', 'wait')),
    revision INTEGER NOT NULL,
    ends_at TEXT,
    note TEXT NOT NULL,
    at TEXT NOT NULL
);

-- What its source says of one revision of a series.
CREATE TABLE completeness (
    series_uid TEXT PRIMARY KEY REFERENCES series,
    revision INTEGER NOT NULL,
    answer TEXT NOT NULL CHECK (answer IN ('ASKING', 'COMPLETE', 'INCOMPLETE', 'NO_ANSWER')),
    expected INTEGER,
    held INTEGER,
    fetches INTEGER NOT NULL DEFAULT 0,
    note TEXT NOT NULL DEFAULT '',
    first_asked_at TEXT NOT NULL,
    next_at TEXT NOT NULL
);
