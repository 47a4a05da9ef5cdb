-- Whether a person decided that a doubtful scan is contoured all the same.
ALTER TABLE job ADD COLUMN scan_released BIGINT NOT NULL DEFAULT 0;
