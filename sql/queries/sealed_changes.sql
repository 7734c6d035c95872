select d.stream, d.is_live, d.seq, d.digest, timestamptz_send(d.ended_at) as ended_at
from {schema}.sealed as d
where d.seal = %(seal)s and (d.stream, d.is_live) > (%(after)s, %(after_live)s)
order by d.stream, d.is_live
limit %(rows)s
