-- Gives back what a reservation holds, unless it was committed. Again is the same as once.
--
-- KEYS: its record; then per line the counter and its holds.
-- ARGV: key, units, granted at (ms), number of lines; then per line 'q', or 'e' or 'b';
-- the window's length (ms); whether its holds have an expiry of their own (1/0); how long its units last (ms).

local BUCKETS = 60
local MOST = 1001 -- as in reserve.lua
local name, units, at = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local record = redis.call('GET', KEYS[1])
if record and string.sub(record, 1, 1) == 'c' then return 0 end
redis.call('DEL', KEYS[1])
local a = 4
for line = 1, tonumber(ARGV[4]) do
    local counter, holds = KEYS[2 * line], KEYS[2 * line + 1]
    local kind, length, own_expiry = ARGV[a + 1], tonumber(ARGV[a + 2]), ARGV[a + 3] == '1'
    local lasts = tonumber(ARGV[a + 4])
    a = a + 4
    if kind == 'q' then
        if redis.call('ZREM', holds, name .. ':' .. units) == 1 and redis.call('HEXISTS', counter, 'held') == 1 then
            redis.call('HINCRBY', counter, 'held', -units)
        end
    elseif record then -- without its record nobody can tell whether the units are still there
        local held = redis.call('ZREM', holds, name .. ':' .. units .. ':' .. at) == 1
        if kind == 'e' then
            for n = 1, math.min(units, MOST) do redis.call('ZREM', counter, name .. ':' .. at .. ':' .. n) end
        elseif held or not own_expiry then
            local bucket = math.floor((tonumber(at) + lasts) / math.ceil(length / BUCKETS))
            if redis.call('HEXISTS', counter, bucket) == 1 then redis.call('HINCRBY', counter, bucket, -units) end
        end
    end
end
return 1
