"""What Levier can do, composed from the domain, the saga, the store and the drivers."""
