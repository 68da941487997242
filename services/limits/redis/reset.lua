-- Sets a counter to zero, with what is held.
--
-- KEYS: the counter and what is held of it. ARGV: for what Postgres counts its new version, the epoch, and when to forget
-- it (ms).

redis.call('DEL', KEYS[1], KEYS[2])
if ARGV[1] then
    redis.call('HSET', KEYS[1], 'used', 0, 'version', ARGV[1], 'held', 0, 'epoch', ARGV[2])
    redis.call('PEXPIREAT', KEYS[1], ARGV[3])
end
return 1
