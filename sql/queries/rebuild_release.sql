update {schema}.rebuilds as r set claim = null
where r.id = %s and r.claim = %s
