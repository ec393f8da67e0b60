-- Writes down queues and workers. KEYS: set of queues, hash of workers. Arguments: how many queues, their names, then for
-- each worker: identity, JSON.
redis.call('DEL', KEYS[1] .. '.nothing')  -- allowed when the memory is full; after a first change all is
local count = tonumber(ARGV[1])
for n = 2, count + 1 do redis.call('SADD', KEYS[1], ARGV[n]) end
for n = count + 2, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[n], ARGV[n + 1]) end
