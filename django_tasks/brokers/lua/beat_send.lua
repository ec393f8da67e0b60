-- Sends messages of entries, each slot once. KEYS: one list. Arguments: now, alive since, then for each: name of the entry,
-- its slot, and what push() reads.
-- Slots of an entry come in their order, so that the last one tells which have been sent: whoever was frozen before it came
-- here, for however long, sends nothing twice.
local now, alive_since = number(), argument()
allow_all(1)
while position < #ARGV do
  local name, slot = argument(), argument()
  local last = redis.call('HGET', own[1] .. 'beat', name)
  local wanted = not last or tonumber(last) < tonumber(slot)
  push(wanted, false, now, alive_since)
  if wanted then redis.call('HSET', own[1] .. 'beat', name, slot) end
end
