select d.stream, d.is_live, d.seq, d.digest, timestamptz_send(d.ended_at) as ended_at
from {schema}.sealed as d
where d.seal <= %(seal)s and (d.seal, d.stream, d.is_live) > (%(seal)s, %(after)s, %(after_live)s)
order by d.seal, d.stream, d.is_live
limit %(rows)s
