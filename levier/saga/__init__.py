"""The saga: step log, unwinding and recovery."""
