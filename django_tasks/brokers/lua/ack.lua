-- Ends deliveries of one list and worker with nothing to follow, which is what most are: finish.lua in short. Goes with
-- meta.lua of the result backend. Arguments: worker, milliseconds to keep the results, then for each: handle, key of its
-- result ("": nothing is stored), meta. Returns what finish.lua does.
local held, milliseconds = own[1] .. 'held.' .. argument(), argument()
local lost, ended, done = {}, {}, {}
local place = 0

allow_all(1)
while position < #ARGV do
  place = place + 1
  local handle, key, meta = argument(), argument(), argument()
  if redis.call('HEXISTS', held, handle) == 0 then
    -- What is stored already is of this very run: the answer to an earlier try got lost.
    if key == '' or redis.pcall('GET', key) ~= meta then lost[#lost + 1] = place end
  elseif is_put(key, milliseconds, meta) then
    done[#done + 1] = handle
  else
    ended[#ended + 1] = place
  end
end
for first = 1, #done, 1000 do redis.call('HDEL', held, unpack(done, first, math.min(first + 999, #done))) end
return {lost, ended}
