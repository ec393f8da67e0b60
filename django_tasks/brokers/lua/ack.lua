-- Ends deliveries of one list and worker with nothing to follow or to store: finish.lua in short. Arguments:
-- worker, then handles. Returns the places of those whose lease was lost.
local key = own[1] .. 'held.' .. argument()
local lost = {}
for place = 1, #ARGV - position do
  if redis.call('HDEL', key, ARGV[position + place]) == 0 then lost[#lost + 1] = place end
end
return lost
