-- The images of a CT that are sent with its contours are hundreds: the history has what became of each, not each
-- attempt.
DROP TRIGGER delivery_born ON delivery;
CREATE TRIGGER delivery_born AFTER INSERT ON delivery FOR EACH ROW
    WHEN (substr(NEW.role, 1, 3) <> 'CT:') EXECUTE FUNCTION note_delivery();
DROP TRIGGER delivery_moved ON delivery;
CREATE TRIGGER delivery_moved AFTER UPDATE OF state ON delivery FOR EACH ROW
    WHEN (OLD.state <> NEW.state
          AND (substr(NEW.role, 1, 3) <> 'CT:' OR NEW.state IN ('STORED', 'COMMITTED', 'FAILED', 'DROPPED')))
    EXECUTE FUNCTION note_delivery();
