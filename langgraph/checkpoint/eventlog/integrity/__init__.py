"""Seals, proofs and verification."""
