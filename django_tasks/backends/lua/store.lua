-- Stores metas, each unless its task has ended, and tells who waits. Layout version 1 of the Redis result backend, which is
-- Celery's:
--
--   <prefix>celery-task-meta-<id>  string: the meta, as RESULT_SERIALIZER writes it; gone when it has expired
--   a channel of the same name     gets the same bytes
--
-- Arguments, for each of KEYS: milliseconds to keep it ("": for ever), what may be overwritten though it is no JSON
-- ("=" and the value, or ""), and the meta.
-- Returns, for each that was not stored: its place, and what stays.
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

local kept = {}
for i, key in ipairs(KEYS) do
  local milliseconds, unclear, meta = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local stored = redis.call('GET', key)
  if stored and has_ended(stored) ~= false and '=' .. stored ~= unclear then
    kept[#kept + 1] = i
    kept[#kept + 1] = stored
  else
    if milliseconds == '' then
      redis.call('SET', key, meta)
    else
      redis.call('SET', key, meta, 'PX', milliseconds)
    end
    redis.call('PUBLISH', key, meta)
  end
end
return kept
