-- Claims slots of entries. KEYS: the states, what is not sent. Arguments: now, then for each claim: name, version of the
-- state that it comes from, the new state, and its messages, one a line; or "" where it has none.
-- Returns for each: 0 where the state was another one; else the messages of this entry that are to be sent, those first
-- that another beat has claimed and left.
local MOST_LEFT = 1048576
redis.call('DEL', KEYS[1] .. '.nothing')  -- allowed when the memory is full; after a first change all is
local answers = {}
for n = 2, #ARGV, 4 do
  local name, version, state, messages = ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3]
  local known = redis.call('HGET', KEYS[1], name)
  local answer = 0
  local left = messages ~= '' and redis.call('HGET', KEYS[2], name)
  -- What cannot be sent does not grow without end.
  if known and string.match(known, '^%d+') == version and not (left and #left > MOST_LEFT) then
    answer = messages
    if messages ~= '' then
      if left then answer = string.match(left, '\n(.*)') .. '\n' .. messages end
      redis.call('HSET', KEYS[2], name, string.match(state, '^%d+') .. ' ' .. ARGV[1] .. '\n' .. answer)
    end
    redis.call('HSET', KEYS[1], name, state)
  end
  answers[#answers + 1] = answer
end
return answers
