-- Routing rules: the row of a series has the AE title of the node to which it was sent, that of a job what was
-- decided about it, so that no later edit of the configuration changes a job that waits.

ALTER TABLE series ADD COLUMN called_ae TEXT NOT NULL DEFAULT '';
ALTER TABLE instance ADD COLUMN called_ae TEXT NOT NULL DEFAULT '';

ALTER TABLE job ADD COLUMN rule TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN protocol TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN protocol_json TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN destinations TEXT;
ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 50;
ALTER TABLE job ADD COLUMN review INTEGER NOT NULL DEFAULT 0 CHECK (review IN (0, 1));
ALTER TABLE job ADD COLUMN config_revision TEXT NOT NULL DEFAULT '';
