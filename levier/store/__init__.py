"""State on disk: the only importer of SQLAlchemy."""
