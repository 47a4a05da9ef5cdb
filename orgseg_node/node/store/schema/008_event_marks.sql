-- Which events the node wrote: a keyed hash of each. The key is a file in the data folder, not in the database, so
-- an event that somebody adds with SQL has none.
CREATE TABLE event_mark (
    number BIGINT PRIMARY KEY,
    code TEXT NOT NULL
);
-- From which number on every event has one; a row for each key there has been, with the keyed hash of the number.
CREATE TABLE marked_since (
    number BIGINT NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (number, code)
);
