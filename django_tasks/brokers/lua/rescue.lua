-- Takes over what dead workers hold. Arguments: now, silent since ("": silence means nothing), janitor, lease, first
-- number, limit, silent since when to be forgotten, then workers known to be dead. Returns for each: number of its list, facts, envelope, worker.
local now, since, janitor, lease = argument(), argument(), argument(), argument()
local count, left, forget = number(), number(), number()
local taken = {}

local function take_over(i, worker, gone)
  empty_inbox(i, worker)
  local key = own[i] .. 'held.' .. worker
  local found = {}
  for _, handle in ipairs(redis.call('HKEYS', key)) do
    local _, place, reserved_at = string.match(handle, '^(%x+)-(%d+)-(.*)$')
    found[#found + 1] = {tonumber(reserved_at), tonumber(place), handle}
  end
  table.sort(found, function(a, b) if a[1] == b[1] then return a[2] < b[2] end return a[1] < b[1] end)
  for n = 1, math.min(left, #found) do
    local value = redis.call('HGET', key, found[n][3])
    local facts, envelope = parted(value)
    redis.call('ZADD', own[i] .. 'workers', 'NX', now, janitor)
    redis.call('HSET', own[i] .. 'held.' .. janitor, lease .. '-' .. count .. '-' .. now, value)
    redis.call('HDEL', key, found[n][3])
    count = count + 1
    taken[#taken + 1] = i
    taken[#taken + 1] = facts
    taken[#taken + 1] = envelope
    taken[#taken + 1] = worker
  end
  left = left - math.min(left, #found)
  if gone and redis.call('EXISTS', key) == 0 then redis.call('ZREM', own[i] .. 'workers', worker) end
end

local known = {}
while position < #ARGV do known[#known + 1] = argument() end
for i = 1, #lists do
  allow_all(i)
  -- None of them is forgotten now: the server may not have heard that his connections are closed, and wait on for a
  -- message that would be set aside for nobody. That one is found when he has been silent for a lease.
  for _, worker in ipairs(known) do take_over(i, worker, false) end
  if since ~= '' then
    local silent = redis.call('ZRANGEBYSCORE', own[i] .. 'workers', '-inf', '(' .. since, 'WITHSCORES')
    for n = 1, #silent, 2 do
      if silent[n] ~= janitor then take_over(i, silent[n], tonumber(silent[n + 1]) < forget) end
    end
  end
end
return taken
