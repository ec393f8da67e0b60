-- Ends deliveries whose lease holds: stores what came of each unless its task has ended, sends what follows, settles. Goes
-- with meta.lua of the result backend; the keys of results are arguments, since they have no list. Arguments: now, alive
-- since, then for each:
--   number of its list (0: there is no delivery), worker, handle
--   key of its result ("": nothing is stored), milliseconds to keep it, meta
--   how many messages follow, and for each what push() reads
--   verb, and its arguments:
--     ack
--     return  due time or "", facts, envelope ("": as it is)
--     dead    JSON of what is known
-- Returns the places of those whose lease was lost, and of those whose task had ended, maybe. Of both all stays as it is.
--
-- Each is settled last: an error in between leaves its message where it is, and those before it have ended, but for what
-- goes back to its list, which does so in the end.
local now, alive_since = number(), argument()
local lost, ended, returned = {}, {}, {}
local place = 0

local function envelope_of(i, worker, handle)
  local _, envelope = parted(redis.call('HGET', own[i] .. 'held.' .. worker, handle))
  return envelope
end

local function let_go(i, worker, handle) redis.call('HDEL', own[i] .. 'held.' .. worker, handle) end

-- Reads a verb and does what it says, if that is wanted.
local function settle(wanted, i, worker, handle)
  local verb = argument()
  if verb == 'return' then
    local due, facts, flagged = argument(), argument(), argument()
    if not wanted then return end
    local envelope = flagged == '' and envelope_of(i, worker, handle) or flagged
    keep_facts(i, envelope, facts)
    if due == '' then
      returned[#returned + 1] = {i, worker, handle, envelope}
    else
      redis.call('ZADD', own[i] .. 'delayed', due, envelope)
      let_go(i, worker, handle)
    end
  elseif verb == 'dead' then
    local known = argument()
    if not wanted then return end
    redis.call('HSET', own[i] .. 'dead', handle, known .. '\n' .. envelope_of(i, worker, handle))
    let_go(i, worker, handle)
  elseif wanted and i > 0 then
    let_go(i, worker, handle)
  end
end

-- Some of these end a message, so that there is room for what they store and send, also when the memory is full.
if #lists > 0 then allow_all(1) end
while position < #ARGV do
  place = place + 1
  local i, worker, handle = number(), argument(), argument()
  local key, milliseconds, meta = argument(), argument(), argument()
  local wanted = i == 0 or redis.call('HEXISTS', own[i] .. 'held.' .. worker, handle) == 1
  if not wanted then
    -- What is stored already is of this very run: the answer to an earlier try got lost.
    if key == '' or redis.pcall('GET', key) ~= meta then lost[#lost + 1] = place end
  elseif not is_put(key, milliseconds, meta) then
    wanted = false
    ended[#ended + 1] = place
  end
  -- With a lease it cannot happen twice.
  for _ = 1, number() do push(wanted, i == 0, now, alive_since) end
  settle(wanted, i, worker, handle)
end
-- From the last to the first, so that the first is the next again.
for n = #returned, 1, -1 do
  local i, worker, handle, envelope = unpack(returned[n])
  redis.call('RPUSH', lists[i], envelope)
  let_go(i, worker, handle)
end
return {lost, ended}
