-- Takes messages for a worker: first what was set aside for it, then from the lists in their order; one that is to be
-- alone comes alone. Arguments: now, worker, lease, first number, limit, how many were taken elsewhere before.
-- Returns for each: number of its list, facts, envelope; the handles are <lease>-<first number and so on>-<now>.
local now, worker, lease, count, limit = argument(), argument(), argument(), number(), number()
local beside = number()
local taken = {}
local left = limit
local CHUNK = 500

local function hold(i, envelopes, facts)
  local fields = {}
  for n, envelope in ipairs(envelopes) do
    local known = facts and facts[n] or ''
    fields[#fields + 1] = lease .. '-' .. count .. '-' .. now
    fields[#fields + 1] = known .. '\n' .. envelope
    count = count + 1
    taken[#taken + 1] = i
    taken[#taken + 1] = known
    taken[#taken + 1] = envelope
  end
  redis.call('HSET', own[i] .. 'held.' .. worker, unpack(fields))
  redis.call('ZADD', own[i] .. 'workers', 'NX', now, worker)
  left = left - #envelopes
end

-- Takes one by one, as each has to be looked up.
local function take_with_facts(i, source)
  while left > 0 do
    local envelope = redis.call('LINDEX', source, -1)
    if not envelope then return end
    local facts = redis.call('HGET', own[i] .. 'facts', redis.sha1hex(envelope)) or ''
    local alone = is_alone(facts)
    if alone and #taken + beside > 0 then
      left = 0
      return
    end
    redis.call('RPOP', source)
    take_facts(i, envelope)
    hold(i, {envelope}, {facts})
    if alone then left = 0 end
  end
end

local function take(i, source)
  if left <= 0 or redis.call('EXISTS', source) == 0 then return end
  if redis.call('EXISTS', own[i] .. 'facts') == 1 then return take_with_facts(i, source) end
  while left > 0 do
    local envelopes = redis.call('RPOP', source, math.min(left, CHUNK))
    if not envelopes then return end
    hold(i, envelopes)
  end
end

for i = 1, #lists do take(i, own[i] .. 'inbox.' .. worker) end
for i = 1, #lists do take(i, lists[i]) end
if #taken == 0 then
  -- It is going to wait: what is set aside for it must be found if it dies before its first sign of life.
  for i = 1, #lists do
    allow_all(i)
    redis.call('ZADD', own[i] .. 'workers', 'NX', now, worker)
  end
end
return taken
