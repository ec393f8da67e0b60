-- Forgets workers that stopped in good order; what they hold in spite of that is rescued later. Arguments: identities.
while position < #ARGV do
  local worker = argument()
  for i = 1, #lists do
    allow_all(i)
    empty_inbox(i, worker)
    if redis.call('EXISTS', own[i] .. 'held.' .. worker) == 0 then redis.call('ZREM', own[i] .. 'workers', worker) end
  end
end
