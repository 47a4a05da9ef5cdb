-- Whether a person decided that a doubtful scan is contoured anyway.
ALTER TABLE job ADD COLUMN scan_released BIGINT NOT NULL DEFAULT 0;
