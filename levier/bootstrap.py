"""The composition root: the only place that wires drivers and store together."""
