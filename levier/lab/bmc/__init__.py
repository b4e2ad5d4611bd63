"""An IPMI 2.0 baseboard management controller as a server on UDP (RMCP+, cipher suites 3 and 17)."""
