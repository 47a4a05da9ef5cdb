-- Routing rules: a series remembers under which of the node's AE titles it came, and a job carries what was
-- decided about it, so that no later edit of a file changes what is already waiting.

ALTER TABLE series ADD COLUMN called_ae TEXT NOT NULL DEFAULT '';
ALTER TABLE instance ADD COLUMN called_ae TEXT NOT NULL DEFAULT '';

ALTER TABLE job ADD COLUMN rule TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN protocol TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN protocol_json TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN destinations TEXT;
ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 50;
ALTER TABLE job ADD COLUMN review INTEGER NOT NULL DEFAULT 0 CHECK (review IN (0, 1));
ALTER TABLE job ADD COLUMN config_revision TEXT NOT NULL DEFAULT '';
