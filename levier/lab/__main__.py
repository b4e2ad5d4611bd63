"""`python -m levier.lab`."""

from levier.lab.cli import app

app()
