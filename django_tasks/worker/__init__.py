"""The worker: the processes that reserve, run and finish tasks."""
