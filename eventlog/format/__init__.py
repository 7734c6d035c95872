"""Bytes in and out: bodies, differences, values, and the arithmetic of digests and Merkle trees.

This package knows nothing of connections.
"""
