-- Takes messages that wait, now or for their time, out of the middle of one list. Arguments: now, holder, lease, first
-- number, then envelopes. Returns for each: facts, or nothing for one that is not there any more.
local now, holder, lease, count = argument(), argument(), argument(), number()
local taken = {}
while position < #ARGV do
  local envelope = argument()
  if redis.call('ZREM', own[1] .. 'delayed', envelope) == 1 or redis.call('LREM', lists[1], -1, envelope) == 1 then
    local facts = take_facts(1, envelope)
    redis.call('HSET', own[1] .. 'held.' .. holder, lease .. '-' .. count .. '-' .. now, facts .. '\n' .. envelope)
    redis.call('ZADD', own[1] .. 'workers', now, holder)
    taken[#taken + 1] = facts
  else
    taken[#taken + 1] = false
  end
  count = count + 1
end
return taken
