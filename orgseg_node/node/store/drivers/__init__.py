"""The two kinds of database: SQLite and PostgreSQL; the only modules that import a driver."""
