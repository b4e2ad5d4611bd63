"""Alembic environment and migrations, packaged with Levier."""
