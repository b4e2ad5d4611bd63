"""The demonstration: what an operator would type, typed, and each result checked against the lab's own ledger."""
