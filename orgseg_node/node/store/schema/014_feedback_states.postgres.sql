-- Further states of structure sets that came back.
ALTER TABLE feedback DROP CONSTRAINT feedback_state_check;
ALTER TABLE feedback ADD CONSTRAINT feedback_state_check CHECK (
    state IN ('RECEIVED', 'COUNTED', 'UNAPPROVED', 'SUPERSEDED', 'REPEATED', 'OWN', 'UNKNOWN_CT', 'OTHER_FRAME',
        'OTHER_PATIENT', 'NOT_DELIVERED', 'AMBIGUOUS', 'PURGED', 'EMPTY', 'NOTHING_MATCHED', 'UNUSABLE',
        'ORIGINAL_UNREADABLE', 'UNREADABLE'));
