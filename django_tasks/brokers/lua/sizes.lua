-- Counts. Returns for each list: waiting, delayed, reserved, dead, and the delivery tag of the message that is next.
local sizes = {}
for i = 1, #lists do
  local waiting, reserved = redis.call('LLEN', lists[i]), 0
  for _, worker in ipairs(redis.call('ZRANGE', own[i] .. 'workers', 0, -1)) do
    waiting = waiting + redis.call('LLEN', own[i] .. 'inbox.' .. worker)
    reserved = reserved + redis.call('HLEN', own[i] .. 'held.' .. worker)
  end
  local next = redis.call('LINDEX', lists[i], -1) or ''
  sizes[i] = {
    waiting, redis.call('ZCARD', own[i] .. 'delayed'), reserved, redis.call('HLEN', own[i] .. 'dead'),
    string.match(next, '"delivery_tag": ?"([^"]*)"') or '',
  }
end
return sizes
