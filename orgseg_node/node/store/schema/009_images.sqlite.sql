-- The images of a CT that are sent with its contours are hundreds: the history has what became of each, not each
-- attempt.
DROP TRIGGER delivery_born;
CREATE TRIGGER delivery_born AFTER INSERT ON delivery WHEN substr(NEW.role, 1, 3) <> 'CT:'
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('delivery', NEW.job_id, '-> ' || NEW.state, NEW.role || ' to ' || NEW.destination); END;
DROP TRIGGER delivery_moved;
CREATE TRIGGER delivery_moved AFTER UPDATE OF state ON delivery
    WHEN OLD.state <> NEW.state
         AND (substr(NEW.role, 1, 3) <> 'CT:' OR NEW.state IN ('STORED', 'COMMITTED', 'FAILED', 'DROPPED'))
    BEGIN INSERT INTO event (kind, subject, change, note)
          VALUES ('delivery', NEW.job_id, OLD.state || ' -> ' || NEW.state,
                  NEW.role || ' to ' || NEW.destination || CASE NEW.note WHEN '' THEN '' ELSE ': ' || NEW.note END); END;
