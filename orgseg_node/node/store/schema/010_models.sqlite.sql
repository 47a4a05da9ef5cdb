-- The triggers of model_version: they refuse what is not allowed, and write the history.
CREATE TRIGGER model_version_guard BEFORE UPDATE OF state ON model_version WHEN OLD.state <> NEW.state
    AND NOT EXISTS (SELECT 1 FROM allowed_transition
                    WHERE kind = 'model_version' AND source = OLD.state AND target = NEW.state)
    BEGIN SELECT RAISE(ABORT, 'illegal transition'); END;
CREATE TRIGGER model_version_born AFTER INSERT ON model_version
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('model', NEW.family, '-> ' || NEW.state,
                  NEW.bundle || ' sha256:' || substr(NEW.sha256, 1, 12) || ' ' || NEW.note); END;
CREATE TRIGGER model_version_moved AFTER UPDATE OF state ON model_version WHEN OLD.state <> NEW.state
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('model', NEW.family, OLD.state || ' -> ' || NEW.state,
                  NEW.bundle || ' sha256:' || substr(NEW.sha256, 1, 12) || ' ' || NEW.note); END;
