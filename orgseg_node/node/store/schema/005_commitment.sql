-- Storage commitment (PS3.4 Annex J) both ways, and deliveries that went to another destination instead.

-- WANTED: STORED is not enough, the destination shall confirm; WAIVED: it was asked and never answered
ALTER TABLE delivery ADD COLUMN confirmation TEXT NOT NULL DEFAULT ''
    CHECK (confirmation IN ('', 'WANTED', 'WAIVED'));
-- the destination that should have had it
ALTER TABLE delivery ADD COLUMN instead_of TEXT NOT NULL DEFAULT '';

-- what senders asked this node to confirm
CREATE TABLE commitment_request (
    transaction_uid TEXT NOT NULL CHECK (length(transaction_uid) BETWEEN 1 AND 64),
    calling_ae TEXT NOT NULL,
    outcome TEXT NOT NULL DEFAULT '' CHECK (outcome IN ('', 'REPORTED', 'GIVEN_UP')),
    note TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    next_attempt_at TEXT NOT NULL,
    PRIMARY KEY (transaction_uid, calling_ae)
);
CREATE INDEX commitment_request_due ON commitment_request (next_attempt_at) WHERE outcome = '';

CREATE TABLE commitment_request_item (
    transaction_uid TEXT NOT NULL,
    calling_ae TEXT NOT NULL,
    place INTEGER NOT NULL,
    sop_class_uid TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    PRIMARY KEY (transaction_uid, calling_ae, place),
    FOREIGN KEY (transaction_uid, calling_ae) REFERENCES commitment_request (transaction_uid, calling_ae)
);

-- how far asking a destination to confirm a job's objects has come
CREATE TABLE confirmation (
    job_id TEXT NOT NULL REFERENCES job (job_id),
    destination TEXT NOT NULL,
    asks INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    next_attempt_at TEXT NOT NULL,
    PRIMARY KEY (job_id, destination)
);

-- each question is a transaction of its own; an answer to an earlier one may still come
CREATE TABLE confirmation_question (
    transaction_uid TEXT PRIMARY KEY CHECK (length(transaction_uid) BETWEEN 1 AND 64),
    job_id TEXT NOT NULL REFERENCES job (job_id),
    destination TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX confirmation_question_of ON confirmation_question (job_id, destination);
