"""Deleting, pruning, copying and retaining threads: rules, plans and their execution."""
