"""Life-cycle flows: they compose tasks and do nothing else."""
