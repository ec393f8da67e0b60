-- Forgets messages that have been sent. KEYS: what is not sent. Arguments: name of each entry, and the version with which
-- its last message was claimed; what was claimed since then stays.
for n = 1, #ARGV, 2 do
  local left = redis.call('HGET', KEYS[1], ARGV[n])
  if left and string.match(left, '^%d+') == ARGV[n + 1] then redis.call('HDEL', KEYS[1], ARGV[n]) end
end
