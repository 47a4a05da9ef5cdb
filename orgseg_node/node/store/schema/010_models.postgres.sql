-- The triggers of model_version: they refuse what is not allowed, and write the history.
CREATE TRIGGER model_version_guard BEFORE UPDATE OF state ON model_version FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION guard_state();

CREATE FUNCTION note_model_version() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO event (kind, subject, change, note)
            VALUES ('model', NEW.family, '-> ' || NEW.state,
                    NEW.bundle || ' sha256:' || substr(NEW.sha256, 1, 12) || ' ' || NEW.note);
    ELSE
        INSERT INTO event (kind, subject, change, note)
            VALUES ('model', NEW.family, OLD.state || ' -> ' || NEW.state,
                    NEW.bundle || ' sha256:' || substr(NEW.sha256, 1, 12) || ' ' || NEW.note);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER model_version_born AFTER INSERT ON model_version FOR EACH ROW EXECUTE FUNCTION note_model_version();
CREATE TRIGGER model_version_moved AFTER UPDATE OF state ON model_version FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION note_model_version();
