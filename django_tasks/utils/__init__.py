"""Small things that tasks import, under Celery's module names."""
