"""The parts of the `stub` chassis: machines without processes of their own, hundreds in one event loop, no root."""
