"""Drivers: each kind implements a protocol of `levier.domain` and knows nothing of Prefect or the store."""
