-- Stores metas. Arguments, for each of KEYS, as put_meta() takes them: milliseconds, what may be overwritten, meta.
-- Returns, for each that was not stored: its place, and what stays.
local kept = {}
for i, key in ipairs(KEYS) do
  local stays = put_meta(key, ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i])
  if stays then
    kept[#kept + 1] = i
    kept[#kept + 1] = stays
  end
end
return kept
