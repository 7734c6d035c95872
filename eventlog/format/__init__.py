"""Encoding and decoding: bodies, differences, values, and the arithmetic of digests and Merkle trees.

This package does not use connections.
"""
