-- Deletes a value that begins with these bytes: it may have been replaced since they were read.
-- KEYS: its key. ARGV: the bytes.
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
