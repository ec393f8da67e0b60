"""Measures django-celeriac beside other task queues: the same work, on the same databases, in one run.

    python -m benchmarks                        everything: takes about an hour
    python -m benchmarks --systems huey --databases sqlite --rounds 1
    python -m benchmarks profile                where the time of one task goes
    python -m benchmarks --write docs/benchmarks.md

``docs/benchmarks.md`` says what is measured and how. Each system runs in processes of its own, with its own virtual
environment (``environments``): an ``agent`` there sends tasks and asks its store, and its workers run beside it.
``measures`` and ``draining`` say what is done with them, ``runner`` repeats it, ``report`` prints it.
"""
