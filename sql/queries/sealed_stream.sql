-- What a seal says of one stream.
select d.seq, d.digest, d.is_live
from {schema}.sealed as d
where d.stream = %s and d.seal <= %s
order by d.seal desc, d.is_live desc
limit 1
