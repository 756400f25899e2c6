"""The command ``livedump-trace``: ``main`` has the group, the other modules its commands."""
