-- What persons decide in a review, and about series of several volumes. Times are UTC, ISO 8601.

-- Who has approved a job in REVIEW, in which run; the node sends it when enough persons have.
CREATE TABLE job_approval (
    job_id TEXT NOT NULL REFERENCES job,
    person TEXT NOT NULL,
    run BIGINT NOT NULL,
    note TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (job_id, person)
);
INSERT INTO job_approval (job_id, person, run, note, at) SELECT job_id, '', run, note, at FROM approval;
DROP TABLE approval;

-- Objects of a job that were made anew since a person left something out; number 1 is what the job made.
CREATE TABLE object_revision (
    job_id TEXT NOT NULL REFERENCES job,
    number BIGINT NOT NULL CHECK (number >= 2),
    left_out TEXT NOT NULL,
    note TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
);

-- The volumes of a held series, of which a person chooses one.
CREATE TABLE series_volume (
    series_uid TEXT NOT NULL REFERENCES series,
    revision BIGINT NOT NULL,
    number BIGINT NOT NULL,
    name TEXT NOT NULL,
    slices BIGINT NOT NULL,
    PRIMARY KEY (series_uid, number)
);

-- Which volume a person has chosen, for one revision of the series.
CREATE TABLE volume_choice (
    series_uid TEXT PRIMARY KEY REFERENCES series,
    revision BIGINT NOT NULL,
    name TEXT NOT NULL,
    note TEXT NOT NULL,
    at TEXT NOT NULL
);
