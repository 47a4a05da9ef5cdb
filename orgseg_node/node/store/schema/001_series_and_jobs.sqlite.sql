-- The history, and the triggers that write it and refuse what is not allowed, as SQLite says them.

CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')),
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    change TEXT NOT NULL,
    note TEXT NOT NULL DEFAULT ''
);
CREATE INDEX event_by_subject ON event (subject);
CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;

CREATE TRIGGER series_guard BEFORE UPDATE OF state ON series WHEN OLD.state <> NEW.state
    AND NOT EXISTS (SELECT 1 FROM allowed_transition
                    WHERE kind = 'series' AND source = OLD.state AND target = NEW.state)
    BEGIN SELECT RAISE(ABORT, 'illegal transition'); END;
CREATE TRIGGER job_guard BEFORE UPDATE OF state ON job WHEN OLD.state <> NEW.state
    AND NOT EXISTS (SELECT 1 FROM allowed_transition
                    WHERE kind = 'job' AND source = OLD.state AND target = NEW.state)
    BEGIN SELECT RAISE(ABORT, 'illegal transition'); END;
CREATE TRIGGER delivery_guard BEFORE UPDATE OF state ON delivery WHEN OLD.state <> NEW.state
    AND NOT EXISTS (SELECT 1 FROM allowed_transition
                    WHERE kind = 'delivery' AND source = OLD.state AND target = NEW.state)
    BEGIN SELECT RAISE(ABORT, 'illegal transition'); END;

CREATE TRIGGER series_born AFTER INSERT ON series
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('series', NEW.series_uid, '-> ' || NEW.state, 'from ' || NEW.calling_ae); END;
CREATE TRIGGER series_moved AFTER UPDATE OF state ON series WHEN OLD.state <> NEW.state
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('series', NEW.series_uid, OLD.state || ' -> ' || NEW.state, NEW.note); END;
CREATE TRIGGER job_born AFTER INSERT ON job
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('job', NEW.job_id, '-> ' || NEW.state, NEW.note); END;
CREATE TRIGGER job_moved AFTER UPDATE OF state ON job WHEN OLD.state <> NEW.state
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('job', NEW.job_id, OLD.state || ' -> ' || NEW.state, NEW.note); END;
CREATE TRIGGER delivery_born AFTER INSERT ON delivery
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('delivery', NEW.job_id, '-> ' || NEW.state, NEW.role || ' to ' || NEW.destination); END;
CREATE TRIGGER delivery_moved AFTER UPDATE OF state ON delivery WHEN OLD.state <> NEW.state
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('delivery', NEW.job_id, OLD.state || ' -> ' || NEW.state,
                  NEW.role || ' to ' || NEW.destination || CASE NEW.note WHEN '' THEN '' ELSE ': ' || NEW.note END); END;
