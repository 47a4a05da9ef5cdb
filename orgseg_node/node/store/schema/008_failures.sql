-- How often the judging of one revision of a series failed, and when it is tried again.
CREATE TABLE series_attempt (
    series_uid TEXT PRIMARY KEY REFERENCES series,
    revision BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_at TEXT NOT NULL
);

-- Periodic tasks of a process that fail again and again; the process deletes the row when the task succeeds.
CREATE TABLE failing_task (
    process TEXT NOT NULL,
    task TEXT NOT NULL,
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    times BIGINT NOT NULL,
    since TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (process, task)
);
