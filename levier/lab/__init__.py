"""The virtual rack: real protocols, virtual machines, and a ledger that knows nothing of the product."""
