-- Takes dead letters of one list into somebody's hands. Arguments: now, holder, lease, first number, then for each:
-- handle, facts. Returns for each its envelope, or nothing where it is no dead letter any more.
local now, holder, lease, count = argument(), argument(), argument(), number()
local taken = {}
allow_all(1)
while position < #ARGV do
  local handle, facts = argument(), argument()
  local value = redis.call('HGET', own[1] .. 'dead', handle)
  taken[#taken + 1] = false
  if value then
    local _, envelope = parted(value)
    redis.call('ZADD', own[1] .. 'workers', now, holder)
    redis.call('HSET', own[1] .. 'held.' .. holder, lease .. '-' .. count .. '-' .. now, facts .. '\n' .. envelope)
    redis.call('HDEL', own[1] .. 'dead', handle)
    taken[#taken] = envelope
  end
  count = count + 1
end
return taken
