-- Adds an order, and forgets old ones. KEYS: the orders. Arguments: milliseconds of now, number before which orders are
-- old, JSON of the order.
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
local number = tonumber(ARGV[1])
if newest[2] and tonumber(newest[2]) >= number then number = tonumber(newest[2]) + 1 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
redis.call('ZADD', KEYS[1], number, string.format('%.0f ', number) .. ARGV[3])
return number
