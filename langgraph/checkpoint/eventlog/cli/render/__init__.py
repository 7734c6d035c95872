"""Output: tables, values, messages and trees as text or JSON."""
