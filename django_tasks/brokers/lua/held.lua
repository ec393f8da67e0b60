-- Says who holds what. Arguments: for each: number of its list, worker, handle. Returns the places of those not held.
local lost = {}
local place = 0
while position < #ARGV do
  place = place + 1
  local i = number()
  if redis.call('HEXISTS', own[i] .. 'held.' .. argument(), argument()) == 0 then lost[#lost + 1] = place end
end
return lost
