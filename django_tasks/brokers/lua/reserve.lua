-- Takes messages for a worker: first what was set aside for it, of which nothing stays there, then from the lists in
-- their order; one that is to be alone comes alone.
-- Arguments: now, worker, lease, first number, limit, how many were taken elsewhere before.
-- Returns for each: number of its list, facts, envelope; the handles are <lease>-<first number and so on>-<now>.
local now, worker, lease, count, limit = argument(), argument(), argument(), number(), number()
local beside = number()
local taken = {}
local left = limit
local CHUNK = 500

-- Puts messages into the worker's hands; only then they are taken from where they are.
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
  allow_all(i)
  redis.call('ZADD', own[i] .. 'workers', 'NX', now, worker)
  redis.call('HSET', own[i] .. 'held.' .. worker, unpack(fields))
  left = left - #envelopes
end

-- Takes one by one, as each has to be looked up.
local function take_with_facts(i, source)
  while left > 0 do
    local envelope = redis.call('LINDEX', source, -1)
    if not envelope then return end
    local facts = facts_of(i, envelope)
    local alone = is_alone(facts)
    if alone and #taken + beside > 0 then
      left = 0
      return
    end
    hold(i, {envelope}, {facts})
    redis.call('RPOP', source)
    forget_facts(i, envelope)
    if alone then left = 0 end
  end
end

local function take(i, source)
  if redis.call('EXISTS', own[i] .. 'facts') == 1 then return take_with_facts(i, source) end
  while left > 0 do
    local found = redis.call('LRANGE', source, -math.min(left, CHUNK), -1)
    if #found == 0 then return end
    local envelopes = {}  -- the next one stands at the right
    for n = #found, 1, -1 do envelopes[#envelopes + 1] = found[n] end
    hold(i, envelopes)
    redis.call('LTRIM', source, 0, -1 - #envelopes)
  end
end

-- All are looked at before anything is taken: what is no list makes this an error.
local sources = {}
local function look(i, source)
  if redis.call('LLEN', source) > 0 then sources[#sources + 1] = {i, source} end
end
for i = 1, #lists do look(i, own[i] .. 'inbox.' .. worker) end
local inboxes = #sources
for i = 1, #lists do look(i, lists[i]) end
for _, source in ipairs(sources) do
  if left > 0 then take(unpack(source)) end
end
-- Others are to have what is left of what was set aside: this worker may be busy for long.
if left == 0 then
  for n = 1, inboxes do empty_inbox(sources[n][1], worker) end
end
if #taken == 0 then
  -- It is going to wait: what is set aside for it must be found if it dies before its first sign of life.
  for i = 1, #lists do
    allow_all(i)
    redis.call('ZADD', own[i] .. 'workers', 'NX', now, worker)
  end
end
return taken
