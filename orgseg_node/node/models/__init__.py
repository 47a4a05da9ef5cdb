"""Versions of models: candidates, the shadow, promotion and rollback."""
