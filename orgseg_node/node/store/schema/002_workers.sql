-- The processes that work on jobs. One beats as long as it lives; whose beats stop is dead, and what it was
-- doing is adopted by another. Nobody's clock is compared with anybody else's: beats are counted.

CREATE TABLE worker (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    life TEXT NOT NULL,
    host TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ALIVE', 'STOPPED', 'DEAD')),
    beats BIGINT NOT NULL DEFAULT 0,
    started_at TEXT NOT NULL,
    seen_at TEXT NOT NULL
);
