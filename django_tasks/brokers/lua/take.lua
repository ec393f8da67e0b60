-- Takes messages that wait, now or for their time, out of the middle of one list. Arguments: now, holder, lease, first
-- number, then envelopes. Returns for each: facts, or nothing for one that is not there any more.
local now, holder, lease, count = argument(), argument(), argument(), number()
local delayed = own[1] .. 'delayed'
local taken = {}

local function is_there(envelope)
  return redis.call('ZSCORE', delayed, envelope) or redis.call('LPOS', lists[1], envelope, 'RANK', -1)
end

allow_all(1)
while position < #ARGV do
  local envelope = argument()
  if is_there(envelope) then
    local facts = facts_of(1, envelope)
    redis.call('ZADD', own[1] .. 'workers', now, holder)
    redis.call('HSET', own[1] .. 'held.' .. holder, lease .. '-' .. count .. '-' .. now, facts .. '\n' .. envelope)
    if redis.call('ZREM', delayed, envelope) == 0 then redis.call('LREM', lists[1], -1, envelope) end
    forget_facts(1, envelope)
    taken[#taken + 1] = facts
  else
    taken[#taken + 1] = false
  end
  count = count + 1
end
return taken
