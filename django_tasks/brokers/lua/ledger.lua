-- Layout version 1 of what the Redis broker keeps. The lists are kombu's, all else is ours.
--
--   <list>                 envelopes of one queue and priority step: new ones come in at the left, the next is at the right
--   {<list>}.workers       zset: workers of ours that serve the list, or hold something of it -> when they last gave a sign
--                          of life
--   {<list>}.inbox.<w>     list: what a blocking move has set aside for worker w, which takes it at its next reserve
--   {<list>}.held.<w>      hash: what worker w has in its hands: handle -> facts LF envelope.
--                          A handle is <lease>-<number>-<reserved at>, so it is there as long as that one lease holds.
--   {<list>}.delayed       zset: envelope -> when it is due
--   {<list>}.facts         hash: SHA-1 of an envelope on the list or delayed -> facts, for those few that have any
--   {<list>}.cause.<d>     string, there for some minutes: a message with this digest of id and cause has been sent
--   {<list>}.ended.<h>     string, there for a minute: the delivery of this handle has ended, and more is to be done when
--                          its worker knows that; where a result of the same end says so, there is none
--   {<list>}.beat          hash: entry of the schedule -> the last slot of it that was sent here (redis_beat.py)
--   {<list>}.dead          hash: dead letters: handle -> JSON of what is known LF envelope
--
-- Facts are "deaths refusals alone admitted" as numbers; a later version may add more of them behind these. All times are
-- seconds of the server's clock, given by the callers as the argument after the prefixes.
--
-- Every script has the lists as KEYS and the prefixes of their own keys ("{<list>}.") as its first arguments; the further
-- keys are made from these here, and are in the same slot of a cluster. There, one more of the KEYS, with an empty prefix,
-- is no list.
--
-- What must work when the memory is full begins with a command that Redis allows then: after its first change a script
-- may do anything.
--
-- An error, as of a key that somebody else has made something else of, ends a script, and what it has done until then
-- stays done. So a message is put where it goes before it is taken from where it is.

local lists, own = KEYS, {}
for i = 1, #KEYS do own[i] = ARGV[i] end
local position = #KEYS
if own[position] == '' then lists[position], own[position] = nil, nil end

local function argument()
  position = position + 1
  return ARGV[position]
end

local function number() return tonumber(argument()) end

-- Seconds for which facts are kept whose message was taken by somebody else.
local FACTS_AGE = 604800

local function allow_all(i) redis.call('DEL', own[i] .. 'nothing') end

local function keep_facts(i, envelope, facts)
  if facts ~= '' then
    redis.call('HSET', own[i] .. 'facts', redis.sha1hex(envelope), facts)
    redis.call('EXPIRE', own[i] .. 'facts', FACTS_AGE)
  end
end

-- Returns the facts of an envelope, which are to be forgotten when it has left its list.
local function facts_of(i, envelope) return redis.call('HGET', own[i] .. 'facts', redis.sha1hex(envelope)) or '' end

local function forget_facts(i, envelope) redis.call('HDEL', own[i] .. 'facts', redis.sha1hex(envelope)) end

local function is_alone(facts) return string.match(facts, '^%d+ %d+ 1') ~= nil end

-- Returns facts and envelope of what a hash holds.
local function parted(value)
  local newline = string.find(value, '\n', 1, true)
  return string.sub(value, 1, newline - 1), string.sub(value, newline + 1)
end

-- Seconds for which a cause is remembered since it was last tried: longer than it takes until whoever sends what follows
-- tries again.
local CAUSE_AGE = 300

-- Sends a message: it waits, or parks until it is due if a worker of ours is there to bring it back. Reads number of its
-- list, due time or "", digest of its cause or "", envelope.
local function push(wanted, once, now, alive_since)
  local i, due, cause, envelope = number(), argument(), argument(), argument()
  if not wanted then return end
  once = once and cause ~= '' and own[i] .. 'cause.' .. cause
  if once and redis.call('EXPIRE', once, CAUSE_AGE) == 1 then return end
  if due ~= '' and tonumber(due) > now
      and redis.call('ZCOUNT', own[i] .. 'workers', alive_since, '+inf') > 0 then
    redis.call('ZADD', own[i] .. 'delayed', due, envelope)
  else
    redis.call('LPUSH', lists[i], envelope)
  end
  if once then redis.call('SET', once, '', 'EX', CAUSE_AGE) end
end

-- Puts what was set aside for a worker back where it came from.
local function empty_inbox(i, worker)
  local inbox = own[i] .. 'inbox.' .. worker
  while redis.call('LMOVE', inbox, lists[i], 'LEFT', 'RIGHT') do end
end
