-- Says who holds what. Arguments: for each: number of its list, worker, handle. Returns the places of those not held,
-- unless that is since they have ended.
local lost = {}
local place = 0
while position < #ARGV do
  place = place + 1
  local i, worker, handle = number(), argument(), argument()
  if redis.call('HEXISTS', own[i] .. 'held.' .. worker, handle) == 0
      and redis.call('EXISTS', own[i] .. 'ended.' .. handle) == 0 then
    lost[#lost + 1] = place
  end
end
return lost
