-- Puts what a wait has brought a worker into its hands, if it is still set aside for it; whatever else is goes back to its
-- list. Arguments: now, worker, handle, envelope; the first of the lists is that of the message.
-- Returns its facts; nothing if it was not there.
local now, worker, handle, envelope = argument(), argument(), argument(), argument()
local inbox = own[1] .. 'inbox.' .. worker
local facts
if redis.call('LPOS', inbox, envelope) then
  facts = facts_of(1, envelope)
  allow_all(1)
  redis.call('ZADD', own[1] .. 'workers', 'NX', now, worker)
  redis.call('HSET', own[1] .. 'held.' .. worker, handle, facts .. '\n' .. envelope)
  redis.call('LREM', inbox, 1, envelope)
  forget_facts(1, envelope)
end
for i = 1, #lists do empty_inbox(i, worker) end
return facts
