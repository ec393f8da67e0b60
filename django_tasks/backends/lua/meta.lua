-- Layout version 1 of the Redis result backend, which is Celery's:
--
--   <prefix>celery-task-meta-<id>  string: the meta, as RESULT_SERIALIZER writes it; gone when it has expired
--   a channel of the same name     gets the same bytes
local ENDED = {SUCCESS = true, FAILURE = true, REVOKED = true}

-- True or false; nil where that cannot be told here: another serializer, or compressed.
local function has_ended(value)
  local status = string.match(value, '^{"status": ?"([^"\\]*)"')
  if not status then
    local is_json, meta = pcall(cjson.decode, value)
    status = is_json and type(meta) == 'table' and meta.status
    if type(status) ~= 'string' then return nil end
  end
  return ENDED[status] or false
end

local function set(key, milliseconds, meta, ...)
  if milliseconds == '' then return redis.call('SET', key, meta, ...) end
  return redis.call('SET', key, meta, 'PX', milliseconds, ...)
end

-- Stores a meta unless its task has ended, and tells who waits. Takes milliseconds to keep it ("": for ever), and what may
-- be overwritten though it is no JSON ("=" and the value, or ""). Returns what stays where it was not stored.
local function put_meta(key, milliseconds, unclear, meta)
  if not set(key, milliseconds, meta, 'NX') then
    local stored = redis.call('GET', key)
    if stored == meta then return end -- by an earlier try, whose answer got lost
    if stored and has_ended(stored) ~= false and '=' .. stored ~= unclear then return stored end
    set(key, milliseconds, meta)
  end
  redis.call('PUBLISH', key, meta)
end

-- Whether a meta is stored now, or there is none (""); one that cannot be stored here is left to the caller.
local function is_put(key, milliseconds, meta)
  if key == '' then return true end
  local worked, stays = pcall(put_meta, key, milliseconds, '', meta)
  return worked and not stays
end
