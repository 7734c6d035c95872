"""The savers' methods beside LangGraph's own: a file for each subject, with the sync and the async face of it."""
