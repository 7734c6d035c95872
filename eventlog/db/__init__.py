"""The database: connections, pools, drivers, group commit, retries, errors, statements, migrations.

This package knows nothing of events.
"""
