-- Changes an envelope that a worker holds. Arguments: worker, handle, new envelope.
local key, handle, envelope = own[1] .. 'held.' .. argument(), argument(), argument()
local value = redis.call('HGET', key, handle)
if value then
  local facts = parted(value)
  redis.call('HSET', key, handle, facts .. '\n' .. envelope)
end
