"""The log: events, their encoding, appending and reading them, and the database that they live in.

This package knows neither snapshots nor projections nor LangGraph's saver classes. Users import from
`langgraph.checkpoint.eventlog`.
"""
