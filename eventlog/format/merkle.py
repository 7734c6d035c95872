"""Merkle trees as RFC 6962 defines them (section 2.1): a root over a list, and proofs that an item is in the list.

The hash of a leaf is ``sha256(0x00, data)``, that of a node ``sha256(0x01, left, right)``, that of no leaves the sha256
of nothing. A list of n is split at the largest power of two below n. The prefixes keep a node from being passed off as
a leaf.

Leaves are added one after the other and not kept: a tree of a million leaves holds twenty hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from eventlog.errors import LogCorruptedError

__all__ = ["AuditPath", "Tree", "leaf_hash", "root_by_path"]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """The root over leaves that are added one by one."""

    def __init__(self) -> None:
        self.size = 0
        # Roots of full subtrees, one for each binary digit of the size that is 1, largest first.
        self._full: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        self.size += 1
        grown, size = leaf, self.size
        while size % 2 == 0:
            grown = _node_hash(self._full.pop(), grown)
            size //= 2
        self._full.append(grown)

    def root(self) -> bytes:
        """The root of the leaves added so far."""
        if not self._full:
            return sha256(b"").digest()
        root = self._full[-1]
        for left in reversed(self._full[:-1]):
            root = _node_hash(left, root)
        return root


class AuditPath:
    """The hashes from one leaf to the root, collected while all leaves are added.

    Args:
        index: of the leaf, from 0.
        size: of the tree.

    Raises:
        LogCorruptedError: if the leaf does not exist, or there are more or fewer leaves than the size.
    """

    def __init__(self, index: int, size: int) -> None:
        if not 0 <= index < size:
            raise _other_size(size)
        self._index = index
        self._size = size
        # For each hash of the path, where the subtree ends of which it is the root, next to the root first.
        ends: list[int] = []
        starts: list[int] = []
        start, count = 0, size
        while count > 1:
            split = 1 << ((count - 1).bit_length() - 1)
            if index < start + split:
                starts.append(start + split)
                ends.append(start + count)
                count = split
            else:
                starts.append(start)
                ends.append(start + split)
                start, count = start + split, count - split
        self._subtrees = [Tree() for _ in ends]
        self._by_place = sorted(zip(ends, self._subtrees, strict=True), key=lambda each: each[0])
        self._next = 0
        self._place = 0

    def add(self, leaf: bytes) -> None:
        """Add the hash of the next leaf, including the proven one's."""
        number = self._next
        self._next += 1
        if number >= self._size:
            raise _other_size(self._size)
        if number == self._index:
            return
        while self._by_place[self._place][0] <= number:
            self._place += 1
        self._by_place[self._place][1].add(leaf)

    def hashes(self) -> tuple[bytes, ...]:
        """The path, from the leaf's neighbour to the hash below the root. Call it after the last leaf."""
        if self._next != self._size:
            raise _other_size(self._size)
        return tuple(tree.root() for tree in reversed(self._subtrees))


def _other_size(size: int) -> LogCorruptedError:
    return LogCorruptedError(f"the seal counts {size} streams, and its list has fewer")


def root_by_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root to which a leaf and its path lead; None if no tree of that size has such a path (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    number, last = index, size - 1
    for each in path:
        if last == 0:
            return None
        if number % 2 == 1 or number == last:
            leaf = _node_hash(each, leaf)
            while number % 2 == 0 and number != 0:
                number >>= 1
                last >>= 1
        else:
            leaf = _node_hash(leaf, each)
        number >>= 1
        last >>= 1
    return leaf if last == 0 else None
