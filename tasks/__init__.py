"""Prefect tasks: one thin, retryable task per step."""
