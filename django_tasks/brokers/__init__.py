"""Brokers carry messages from producer to worker and remember who holds which."""
