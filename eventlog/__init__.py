"""The log: events, their encoding, appending and reading them, and the database that they live in.

This room knows neither snapshots nor projections nor LangGraph's saver classes. The front door is
`langgraph.checkpoint.eventlog`.
"""
