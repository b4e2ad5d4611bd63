"""Levier takes racks of powered-off machines to a running OpenStack cloud, and keeps it recoverable."""

__version__ = "0.1.0"
