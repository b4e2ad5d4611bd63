"""Starts, watches and stops the processes of one Levier installation. It knows processes, not the product."""
