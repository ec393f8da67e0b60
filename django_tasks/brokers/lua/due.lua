-- Brings due messages to their lists. Arguments: now, how many of each list at most. Returns how many of the list with
-- most.
local now, limit = argument(), number()
local most = 0
for i = 1, #lists do
  local delayed = own[i] .. 'delayed'
  local envelopes = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, limit)
  if #envelopes > 0 then allow_all(i) end
  for _, envelope in ipairs(envelopes) do
    redis.call('LPUSH', lists[i], envelope)
    redis.call('ZREM', delayed, envelope)
  end
  most = math.max(most, #envelopes)
end
return most
