-- What is kept to look back at: under which configuration and models a job was worked on, the chain that seals
-- the history, and the notices that were or will be sent. Plain tables; times are UTC, ISO 8601.

-- Every configuration that was in force, as JSON. Secrets are files, and not in it.
CREATE TABLE config_revision (
    revision TEXT PRIMARY KEY CHECK (length(revision) = 16),
    content TEXT NOT NULL,
    first_at TEXT NOT NULL
);

-- Under what jobs are worked on: version of the program, revision of the configuration, hashes of the models.
CREATE TABLE context (
    context TEXT PRIMARY KEY CHECK (length(context) = 16),
    content TEXT NOT NULL,
    first_at TEXT NOT NULL
);

-- Under which of them a job was worked on last; each change is an event of the job as well.
CREATE TABLE job_context (
    job_id TEXT PRIMARY KEY REFERENCES job,
    context TEXT NOT NULL REFERENCES context
);

-- The chain over the history: each link holds the hash of the one before. Links have no gaps.
CREATE TABLE seal (
    link BIGINT PRIMARY KEY CHECK (link >= 1),
    event_number BIGINT NOT NULL UNIQUE,
    hash TEXT NOT NULL CHECK (length(hash) = 64)
);

-- Whoever wants to know whether the database can be written writes here.
CREATE TABLE probe (name TEXT PRIMARY KEY, at TEXT NOT NULL);

-- When destinations answered C-ECHO.
CREATE TABLE destination_echo (
    destination TEXT PRIMARY KEY,
    asked_at TEXT NOT NULL,
    answered_at TEXT,
    code TEXT NOT NULL DEFAULT ''
);

-- What somebody should know. The key says what it is about, so that the same thing is reported once.
CREATE TABLE notice (
    notice_key TEXT PRIMARY KEY,
    code TEXT NOT NULL,
    subject TEXT NOT NULL,
    raised_at TEXT NOT NULL,
    cleared_at TEXT
);

-- A message that holds several notices; it is made before it is sent, so that a second try is the same message.
CREATE TABLE notice_message (
    message_id TEXT PRIMARY KEY,
    channel TEXT NOT NULL,
    created_at TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_attempt_at TEXT NOT NULL,
    sent_at TEXT
);
CREATE TABLE notice_in_message (
    notice_key TEXT NOT NULL REFERENCES notice,
    channel TEXT NOT NULL,
    message_id TEXT NOT NULL REFERENCES notice_message,
    PRIMARY KEY (notice_key, channel)
);
