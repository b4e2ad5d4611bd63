"""The package mirror that a lab offers its machines, which have no way out of their network."""
