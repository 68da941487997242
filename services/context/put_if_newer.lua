-- Keeps each document unless a newer one is there, and announces those that were kept.
-- KEYS: document keys. ARGV: channel ('' to stay silent), then for each key: version, milliseconds, sealed bytes, name.
-- A value is its version in decimal, a space, and the bytes. A tombstone has no bytes. What is no value at all, of
-- whatever type, is replaced.
for i, key in ipairs(KEYS) do
  local version = tonumber(ARGV[4 * i - 2])
  local held = redis.pcall('GETRANGE', key, 0, 20)
  local kept = type(held) == 'string' and tonumber(string.match(held, '^(%d+) ')) or -1
  if version >= kept then
    redis.call('SET', key, ARGV[4 * i - 2] .. ' ' .. ARGV[4 * i], 'PX', ARGV[4 * i - 1])
  end
  if ARGV[1] ~= '' then
    redis.call('PUBLISH', ARGV[1], ARGV[4 * i - 2] .. ' ' .. ARGV[4 * i + 1])
  end
end
return #KEYS
