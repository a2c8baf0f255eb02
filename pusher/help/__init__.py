"""The topics of ``pusher help``: Markdown that a browser, a terminal and ``man`` show."""
