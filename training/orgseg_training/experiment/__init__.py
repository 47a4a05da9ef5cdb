"""The study's two strategies, step by step; every step reads files, writes files and may be run again."""
