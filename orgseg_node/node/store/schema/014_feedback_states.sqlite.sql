-- Further states of structure sets that came back. SQLite changes a rule of a column only by a new table, and the
-- tables that refer to it are made anew with it.

ALTER TABLE feedback RENAME TO feedback_before;
ALTER TABLE feedback_organ RENAME TO feedback_organ_before;
ALTER TABLE feedback_alarm RENAME TO feedback_alarm_before;
DROP INDEX feedback_of_job;
DROP INDEX one_counted_feedback;
DROP INDEX feedback_by_organ;

CREATE TABLE feedback (
    number BIGINT PRIMARY KEY CHECK (number >= 1),
    sop_uid TEXT NOT NULL,
    -- of the dataset, as of an instance
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    -- relative to the data folder: in the inbox at first, then in the folder feedback
    path TEXT NOT NULL,
    sender TEXT NOT NULL,
    received_at TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('RECEIVED', 'COUNTED', 'UNAPPROVED', 'SUPERSEDED', 'REPEATED', 'OWN',
        'UNKNOWN_CT', 'OTHER_FRAME', 'OTHER_PATIENT', 'NOT_DELIVERED', 'AMBIGUOUS', 'PURGED', 'EMPTY', 'NOTHING_MATCHED',
        'UNUSABLE', 'ORIGINAL_UNREADABLE', 'UNREADABLE')),
    note TEXT NOT NULL DEFAULT '',
    -- what it is compared with; empty if it is not known
    job_id TEXT NOT NULL DEFAULT '',
    role TEXT NOT NULL DEFAULT '',
    -- keyed hash of the name of the person in its header; empty if it has none
    planner TEXT NOT NULL DEFAULT '',
    -- when it was written, as its header says
    written TEXT NOT NULL DEFAULT '',
    contours_sha256 TEXT NOT NULL DEFAULT '',
    attempts BIGINT NOT NULL DEFAULT 0,
    updated_at TEXT NOT NULL,
    UNIQUE (sop_uid, sha256)
);
INSERT INTO feedback SELECT * FROM feedback_before;

CREATE TABLE feedback_organ (
    number BIGINT NOT NULL REFERENCES feedback,
    position BIGINT NOT NULL,
    -- name of the ROI as it came back; for an organ that was deleted, as it was delivered
    roi TEXT NOT NULL,
    -- key of the organ; empty if the name means none for certain
    organ TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('EDITED', 'UNCHANGED', 'DELETED', 'ADDED', 'UNMATCHED', 'UNUSABLE')),
    note TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    protocol TEXT NOT NULL DEFAULT '',
    dice DOUBLE PRECISION NOT NULL DEFAULT -1,
    surface_dice_2mm DOUBLE PRECISION NOT NULL DEFAULT -1,
    hd95_mm DOUBLE PRECISION NOT NULL DEFAULT -1,
    mean_distance_mm DOUBLE PRECISION NOT NULL DEFAULT -1,
    added_path_mm DOUBLE PRECISION NOT NULL DEFAULT -1,
    delivered_ml DOUBLE PRECISION NOT NULL DEFAULT -1,
    approved_ml DOUBLE PRECISION NOT NULL DEFAULT -1,
    slices_edited DOUBLE PRECISION NOT NULL DEFAULT -1,
    near_target_dice DOUBLE PRECISION NOT NULL DEFAULT -1,
    PRIMARY KEY (number, position)
);
INSERT INTO feedback_organ SELECT * FROM feedback_organ_before;

CREATE TABLE feedback_alarm (
    organ TEXT NOT NULL,
    measure TEXT NOT NULL,
    model TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- of the structure set with which it was seen
    number BIGINT NOT NULL REFERENCES feedback,
    -- 1 if the values are too high, 0 if too low
    is_high BIGINT NOT NULL CHECK (is_high IN (0, 1)),
    raised_at TEXT NOT NULL,
    PRIMARY KEY (organ, measure, model, kind, number)
);
INSERT INTO feedback_alarm SELECT * FROM feedback_alarm_before;

DROP TABLE feedback_alarm_before;
DROP TABLE feedback_organ_before;
DROP TABLE feedback_before;

CREATE INDEX feedback_of_job ON feedback (job_id);
CREATE UNIQUE INDEX one_counted_feedback ON feedback (job_id) WHERE state = 'COUNTED';
CREATE INDEX feedback_by_organ ON feedback_organ (organ);
