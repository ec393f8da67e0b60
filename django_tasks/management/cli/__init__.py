"""``manage.py tasks``: ``arguments`` declares what can be asked, the other modules answer it."""
