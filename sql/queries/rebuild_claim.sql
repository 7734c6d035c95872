-- Whoever works on it keeps its row locked in every transaction.
update {schema}.rebuilds as r
set claim = %(claim)s, seen_at = {schema}.clock_v1()
where r.id = %(id)s and r.finished_at is null
