"""One module for each system; it runs in that system's virtual environment. ``base.System`` is what each has."""
