-- Whether a process is reading the series, which is so at the next start if the whole node was killed meanwhile, and
-- whether the series was preloaded for its job.
ALTER TABLE series_attempt ADD COLUMN at_risk BIGINT NOT NULL DEFAULT 0;
ALTER TABLE series_attempt ADD COLUMN preloaded BIGINT NOT NULL DEFAULT 0;
