"""The command ``livedump-trace``: ``main`` has the group, each other module some of its commands."""
