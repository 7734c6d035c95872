"""Checks that our packages are ours.

`eventlog`, `snapshots` and `projections` are plain names: an application may have a module of the same name, which
would be imported instead and fail far from the cause.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# The face is <root>/langgraph/checkpoint/eventlog/.
_ROOT = Path(__file__).resolve().parents[3]

for _name in ("eventlog", "snapshots", "projections"):
    _spec = find_spec(_name)
    _origin = Path(_spec.origin).resolve() if _spec is not None and _spec.origin is not None else None
    if _origin is None or _origin.parent.parent != _ROOT:
        raise ImportError(
            f"langgraph-checkpoint-eventlog needs its own package {_name!r}, in {_ROOT}, but Python finds "
            f"{_origin or 'none'}: rename that module, or take its folder off sys.path"
        )
