"""Networks run only where the guide of their bundle found their organs, without losing what lies beyond."""
