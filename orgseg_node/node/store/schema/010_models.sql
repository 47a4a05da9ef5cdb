-- Versions of models. A family such as head-neck has at most one version that is live, and one in the shadow; a
-- version is a bundle, identified by its hash.
CREATE TABLE model_version (
    family TEXT NOT NULL CHECK (length(family) BETWEEN 1 AND 64),
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    bundle TEXT NOT NULL CHECK (length(bundle) BETWEEN 1 AND 64),
    state TEXT NOT NULL CHECK (state IN ('CANDIDATE', 'SHADOW', 'LIVE', 'RETIRED')),
    note TEXT NOT NULL DEFAULT '',
    -- hash of the version that was live before this one; empty for the first
    replaces TEXT NOT NULL DEFAULT '',
    -- the gate file with which it is proposed, or became live
    gate TEXT NOT NULL DEFAULT '',
    added_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (family, sha256)
);
CREATE UNIQUE INDEX one_live_version ON model_version (family) WHERE state = 'LIVE';
CREATE UNIQUE INDEX one_version_in_the_shadow ON model_version (family) WHERE state = 'SHADOW';

-- Who signed the promotion of a version, and what exactly; a version becomes live when enough have.
CREATE TABLE promotion_signature (
    family TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    signer TEXT NOT NULL,
    content TEXT NOT NULL,
    public_key TEXT NOT NULL,
    signature TEXT NOT NULL,
    at TEXT NOT NULL,
    -- 1 once the version became live by it: another promotion needs new signatures
    used BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (family, sha256, signer),
    FOREIGN KEY (family, sha256) REFERENCES model_version (family, sha256)
);

-- A version in the shadow contours what the live version has contoured. Nothing of it is sent; only how far both
-- agree is kept, as JSON.
CREATE TABLE shadow_run (
    family TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    job_id TEXT NOT NULL REFERENCES job,
    outcome TEXT NOT NULL DEFAULT '' CHECK (outcome IN ('', 'COMPARED', 'FAILED')),
    attempts BIGINT NOT NULL DEFAULT 0,
    note TEXT NOT NULL DEFAULT '',
    agreement TEXT NOT NULL DEFAULT '',
    at TEXT NOT NULL,
    PRIMARY KEY (family, sha256, job_id),
    FOREIGN KEY (family, sha256) REFERENCES model_version (family, sha256)
);

-- Hash of each bundle of a job whose bundles were named by an alias: the job keeps the version it was made with.
ALTER TABLE job ADD COLUMN models TEXT NOT NULL DEFAULT '';
