-- The node's memory. Every change of state is checked against allowed_transition, which is filled from
-- jobs.py when the node starts, and appended to event by a trigger. Times are UTC, ISO 8601.

CREATE TABLE allowed_transition (
    kind TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    PRIMARY KEY (kind, source, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE series (
    series_uid TEXT PRIMARY KEY CHECK (length(series_uid) BETWEEN 1 AND 64),
    state TEXT NOT NULL CHECK (state IN ('RECEIVING', 'READY', 'HOLD', 'IGNORED', 'CONFLICT')),
    reason TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    revision INTEGER NOT NULL DEFAULT 1 CHECK (revision >= 1),
    calling_ae TEXT NOT NULL,
    created_at TEXT NOT NULL,
    last_received_at TEXT NOT NULL,
    CHECK (state NOT IN ('HOLD', 'IGNORED', 'CONFLICT') OR reason <> '')
) STRICT;

CREATE TABLE instance (
    sop_uid TEXT NOT NULL CHECK (length(sop_uid) BETWEEN 1 AND 64),
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    series_uid TEXT NOT NULL REFERENCES series,
    size INTEGER NOT NULL CHECK (size > 0),
    path TEXT NOT NULL UNIQUE,
    transfer_syntax TEXT NOT NULL,
    calling_ae TEXT NOT NULL,
    received_at TEXT NOT NULL,
    PRIMARY KEY (sop_uid, sha256)
) STRICT;
CREATE INDEX instance_by_series ON instance (series_uid);

CREATE TABLE job (
    job_id TEXT PRIMARY KEY CHECK (length(job_id) = 16),
    series_uid TEXT NOT NULL REFERENCES series,
    revision INTEGER NOT NULL,
    content_sha256 TEXT NOT NULL CHECK (length(content_sha256) = 64),
    bundles TEXT NOT NULL,
    slices INTEGER NOT NULL CHECK (slices > 0),
    state TEXT NOT NULL CHECK (state IN (
        'QUEUED', 'PREPARING', 'INFERRING', 'WRITING', 'CHECKING', 'REVIEW', 'SENDING', 'DONE',
        'RETRY_WAIT', 'FAILED', 'CANCELLED', 'SUPERSEDED', 'REJECTED')),
    run INTEGER NOT NULL DEFAULT 1 CHECK (run >= 1),
    progress REAL NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    stage TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    purged_at TEXT,
    CHECK (state <> 'FAILED' OR (reason <> '' AND note <> ''))
) STRICT;
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
    attempts INTEGER NOT NULL DEFAULT 0,
    status INTEGER,
    note TEXT NOT NULL DEFAULT '',
    next_attempt_at TEXT NOT NULL,
    first_attempt_at TEXT,
    PRIMARY KEY (job_id, role, destination)
) STRICT;
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE state IN ('PENDING', 'RETRY_WAIT');

CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')),
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    change TEXT NOT NULL,
    note TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX event_by_subject ON event (subject);
CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;

CREATE TRIGGER series_guard BEFORE UPDATE OF state ON series WHEN OLD.state <> NEW.state
    AND NOT EXISTS (SELECT 1 FROM allowed_transition
                    WHERE kind = 'series' AND source = OLD.state AND target = NEW.state)
    BEGIN SELECT RAISE(ABORT, 'illegal transition'); END;
CREATE TRIGGER job_guard BEFORE UPDATE OF state ON job WHEN OLD.state <> NEW.state
    AND NOT EXISTS (SELECT 1 FROM allowed_transition
                    WHERE kind = 'job' AND source = OLD.state AND target = NEW.state)
    BEGIN SELECT RAISE(ABORT, 'illegal transition'); END;
CREATE TRIGGER delivery_guard BEFORE UPDATE OF state ON delivery WHEN OLD.state <> NEW.state
    AND NOT EXISTS (SELECT 1 FROM allowed_transition
                    WHERE kind = 'delivery' AND source = OLD.state AND target = NEW.state)
    BEGIN SELECT RAISE(ABORT, 'illegal transition'); END;

CREATE TRIGGER series_born AFTER INSERT ON series
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('series', NEW.series_uid, '-> ' || NEW.state, 'from ' || NEW.calling_ae); END;
CREATE TRIGGER series_moved AFTER UPDATE OF state ON series WHEN OLD.state <> NEW.state
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('series', NEW.series_uid, OLD.state || ' -> ' || NEW.state, NEW.note); END;
CREATE TRIGGER job_born AFTER INSERT ON job
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('job', NEW.job_id, '-> ' || NEW.state, NEW.note); END;
CREATE TRIGGER job_moved AFTER UPDATE OF state ON job WHEN OLD.state <> NEW.state
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('job', NEW.job_id, OLD.state || ' -> ' || NEW.state, NEW.note); END;
CREATE TRIGGER delivery_born AFTER INSERT ON delivery
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('delivery', NEW.job_id, '-> ' || NEW.state, NEW.role || ' to ' || NEW.destination); END;
CREATE TRIGGER delivery_moved AFTER UPDATE OF state ON delivery WHEN OLD.state <> NEW.state
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('delivery', NEW.job_id, OLD.state || ' -> ' || NEW.state,
                  NEW.role || ' to ' || NEW.destination || CASE NEW.note WHEN '' THEN '' ELSE ': ' || NEW.note END); END;
