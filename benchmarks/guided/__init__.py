"""Guided inference: single-organ networks led by a guide, compared with runs on the whole CT."""
