-- Series of which an association is open (OPEN), or of which one did not end in order (BROKEN) and no later one
-- has ended in order. Series whose associations all ended in order have no row.
CREATE TABLE transfer (
    series_uid TEXT PRIMARY KEY CHECK (length(series_uid) BETWEEN 1 AND 64),
    state TEXT NOT NULL CHECK (state IN ('OPEN', 'BROKEN')),
    cause TEXT NOT NULL DEFAULT '',
    at TEXT NOT NULL
);
