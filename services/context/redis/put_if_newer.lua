-- Keeps each document unless a newer one is there, and tells of all of them in one publication, a line for each.
-- KEYS: document keys. ARGV: two channels ('' to stay silent), then for each key: version, milliseconds, sealed bytes,
-- name.
-- A value is its version in decimal, a space, and the bytes. A tombstone has no bytes. What is no value at all, of
-- whatever type, is replaced.
local told = {}
for i, key in ipairs(KEYS) do
  local version = tonumber(ARGV[4 * i - 1])
  local held = redis.pcall('GETRANGE', key, 0, 20)
  local kept = type(held) == 'string' and tonumber(string.match(held, '^(%d+) ')) or -1
  if version >= kept then
    redis.call('SET', key, ARGV[4 * i - 1] .. ' ' .. ARGV[4 * i + 1], 'PX', ARGV[4 * i])
  end
  told[i] = ARGV[4 * i - 1] .. ' ' .. ARGV[4 * i + 2]
end
for channel = 1, 2 do
  if ARGV[channel] ~= '' then
    redis.call('PUBLISH', ARGV[channel], table.concat(told, '\n'))
  end
end
return #KEYS
