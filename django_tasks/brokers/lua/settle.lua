-- Ends deliveries whose lease holds, and sends what follows from them: all at once. Arguments: now, alive since, then for
-- each: number of its list (0: there is no delivery), worker, handle, verb, arguments of the verb; then how many messages
-- follow, and for each what push() reads.
--   ack
--   return  due time or "", facts, envelope ("": as it is)
--   dead    JSON of what is known
-- Returns the places of those whose lease was lost.
local now, alive_since = number(), argument()
local lost, returned = {}, {}
local place = 0

local function let_go(i, worker, handle)
  local key = own[i] .. 'held.' .. worker
  local value = redis.call('HGET', key, handle)
  if value then redis.call('HDEL', key, handle) end
  return value
end

local function give_back(i, value, due, facts, envelope)
  if envelope == '' then
    local _
    _, envelope = parted(value)
  end
  keep_facts(i, envelope, facts)
  if due ~= '' then
    redis.call('ZADD', own[i] .. 'delayed', due, envelope)
  else
    returned[#returned + 1] = {i, envelope}
  end
end

while position < #ARGV do
  place = place + 1
  local i, worker, handle, verb = number(), argument(), argument(), argument()
  local held = true
  if verb == 'ack' then
    held = i == 0 or redis.call('HDEL', own[i] .. 'held.' .. worker, handle) == 1
  elseif verb == 'return' then
    local due, facts, envelope = argument(), argument(), argument()
    held = let_go(i, worker, handle)
    if held then give_back(i, held, due, facts, envelope) end
  else
    local known = argument()
    held = let_go(i, worker, handle)
    if held then
      local _, envelope = parted(held)
      redis.call('HSET', own[i] .. 'dead', handle, known .. '\n' .. envelope)
    end
  end
  if not held then lost[#lost + 1] = place end
  -- With a lease it cannot happen twice.
  for _ = 1, number() do push(held, i == 0, now, alive_since) end
end
-- From the last to the first, so that the first is the next again.
for n = #returned, 1, -1 do redis.call('RPUSH', lists[returned[n][1]], returned[n][2]) end
return lost
