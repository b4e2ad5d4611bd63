"""The REST API and the boot service."""
