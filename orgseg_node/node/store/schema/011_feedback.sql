-- Structure sets that came back, what became of each, and how each organ differs from what was delivered. A row is
-- written before the sender gets Success. Times are UTC, ISO 8601; -1 in a measure means that it is not defined.
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
        'UNKNOWN_CT', 'OTHER_FRAME', 'OTHER_PATIENT', 'NOT_DELIVERED', 'AMBIGUOUS', 'PURGED', 'NOTHING_MATCHED',
        'UNREADABLE')),
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
CREATE INDEX feedback_of_job ON feedback (job_id);
-- Of each delivered result at most one structure set counts as the truth.
CREATE UNIQUE INDEX one_counted_feedback ON feedback (job_id) WHERE state = 'COUNTED';

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
CREATE INDEX feedback_by_organ ON feedback_organ (organ);
