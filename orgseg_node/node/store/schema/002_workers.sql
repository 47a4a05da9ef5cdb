-- The processes that work on jobs. Each counts its heartbeats up; one whose number stays the same is DEAD, and
-- another process adopts its jobs. Heartbeats are counted, so the clocks of machines are never compared.

CREATE TABLE worker (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    life TEXT NOT NULL,
    host TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ALIVE', 'STOPPED', 'DEAD')),
    beats BIGINT NOT NULL DEFAULT 0,
    started_at TEXT NOT NULL,
    seen_at TEXT NOT NULL
);
