-- The history, and the triggers that write it and refuse what is not allowed, as PostgreSQL says them.
-- The functions keep the search path of now, so that they work for whoever looks at the tables later.

CREATE TABLE event (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at TEXT NOT NULL
        DEFAULT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"'),
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    change TEXT NOT NULL,
    note TEXT NOT NULL DEFAULT ''
);
CREATE INDEX event_by_subject ON event (subject);

CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never %', CASE TG_OP WHEN 'UPDATE' THEN 'changed' ELSE 'deleted' END
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER event_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();

CREATE FUNCTION guard_state() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM allowed_transition
                   WHERE kind = TG_TABLE_NAME AND source = OLD.state AND target = NEW.state) THEN
        RAISE EXCEPTION 'illegal transition' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER series_guard BEFORE UPDATE OF state ON series FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION guard_state();
CREATE TRIGGER job_guard BEFORE UPDATE OF state ON job FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION guard_state();
CREATE TRIGGER delivery_guard BEFORE UPDATE OF state ON delivery FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION guard_state();

CREATE FUNCTION note_series() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO event (kind, subject, change, note)
            VALUES ('series', NEW.series_uid, '-> ' || NEW.state, 'from ' || NEW.calling_ae);
    ELSE
        INSERT INTO event (kind, subject, change, note)
            VALUES ('series', NEW.series_uid, OLD.state || ' -> ' || NEW.state, NEW.note);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER series_born AFTER INSERT ON series FOR EACH ROW EXECUTE FUNCTION note_series();
CREATE TRIGGER series_moved AFTER UPDATE OF state ON series FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION note_series();

CREATE FUNCTION note_job() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO event (kind, subject, change, note)
            VALUES ('job', NEW.job_id, '-> ' || NEW.state, NEW.note);
    ELSE
        INSERT INTO event (kind, subject, change, note)
            VALUES ('job', NEW.job_id, OLD.state || ' -> ' || NEW.state, NEW.note);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER job_born AFTER INSERT ON job FOR EACH ROW EXECUTE FUNCTION note_job();
CREATE TRIGGER job_moved AFTER UPDATE OF state ON job FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION note_job();

CREATE FUNCTION note_delivery() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO event (kind, subject, change, note)
            VALUES ('delivery', NEW.job_id, '-> ' || NEW.state, NEW.role || ' to ' || NEW.destination);
    ELSE
        INSERT INTO event (kind, subject, change, note)
            VALUES ('delivery', NEW.job_id, OLD.state || ' -> ' || NEW.state,
                    NEW.role || ' to ' || NEW.destination
                    || CASE NEW.note WHEN '' THEN '' ELSE ': ' || NEW.note END);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER delivery_born AFTER INSERT ON delivery FOR EACH ROW EXECUTE FUNCTION note_delivery();
CREATE TRIGGER delivery_moved AFTER UPDATE OF state ON delivery FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION note_delivery();
