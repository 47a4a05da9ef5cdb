-- Persons who may log in to the pages. Passwords are stored as argon2id hashes only; without one, a person can log in
-- with a one-time address alone.
CREATE TABLE user_account (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    roles TEXT NOT NULL,
    password_hash TEXT NOT NULL DEFAULT '',
    -- grows with each change; sessions that began under an earlier one end
    revision BIGINT NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

-- One-time addresses: only the hash of the secret in them is stored, and using it deletes the row.
CREATE TABLE login_ticket (
    ticket_sha256 TEXT PRIMARY KEY CHECK (length(ticket_sha256) = 64),
    name TEXT NOT NULL REFERENCES user_account,
    ends_at TEXT NOT NULL
);
