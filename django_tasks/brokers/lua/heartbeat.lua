-- Notes that workers live, and gives back what they hold and do not know of. Arguments: now, "" or "XX" (only on lists
-- where they are known already), reserved before (older reservations only), then for each worker: identity, its leases
-- with a space around each.
local now, known, before = argument(), argument(), number()

local function give_back_unknown(i, worker, leases)
  local key = own[i] .. 'held.' .. worker
  local unknown = {}
  for _, handle in ipairs(redis.call('HKEYS', key)) do
    local lease, count, reserved_at = string.match(handle, '^(%x+)-(%d+)-(.*)$')
    if tonumber(reserved_at) < before and not string.find(leases, ' ' .. lease .. ' ', 1, true) then
      unknown[#unknown + 1] = {tonumber(reserved_at), tonumber(count), handle}
    end
  end
  -- From the last to the first, so that the first is the next again.
  table.sort(unknown, function(a, b) if a[1] == b[1] then return a[2] > b[2] end return a[1] > b[1] end)
  for _, each in ipairs(unknown) do
    local facts, envelope = parted(redis.call('HGET', key, each[3]))
    keep_facts(i, envelope, facts)
    redis.call('RPUSH', lists[i], envelope)
    redis.call('HDEL', key, each[3])
  end
end

local workers, leases = {}, {}
while position < #ARGV do
  workers[#workers + 1] = argument()
  leases[#workers] = argument()
end
for i = 1, #lists do
  allow_all(i)
  for _, worker in ipairs(workers) do
    if known == '' then
      redis.call('ZADD', own[i] .. 'workers', now, worker)
    else
      redis.call('ZADD', own[i] .. 'workers', 'XX', now, worker)
    end
  end
end
-- After all signs of life, which nothing that cannot be given back may keep from being noted.
for i = 1, #lists do
  for n, worker in ipairs(workers) do give_back_unknown(i, worker, leases[n]) end
end
