-- One call at a time begins a rebuild, or takes one over.
lock table {schema}.rebuilds in share row exclusive mode nowait
