-- Alarms of control charts: each is written once, when the structure set is counted with which it was seen.
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
