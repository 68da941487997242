-- Ends the holds of committed reservations and takes over what Postgres has counted.
--
-- KEYS, per item: its record; then per line the counter and its holds.
-- ARGV: one MessagePack array {epoch, items}; an item is {key, units, granted at (ms), lines}; a line
--   for a quota {used and version as Postgres counts now, when to forget it (ms)}, for a window {}
--
-- Returns per item {1 when it had been committed as far as Redis knows, used of each line, ...}; -1 where it does not.

local epoch, items = unpack(cmsgpack.unpack(ARGV[1]))
local k = 0

local function key()
    k = k + 1
    return KEYS[k]
end

local function quota(item, counter, holds, used, version, forget)
    local known = redis.call('HMGET', counter, 'used', 'version', 'held')
    local held = tonumber(known[3] or 0)
    if redis.call('ZREM', holds, item.key .. ':' .. item.units) == 1 then
        held = math.max(held - item.units, 0)
    end
    if not known[1] then
        redis.call('DEL', holds)
        redis.call('HSET', counter, 'used', used, 'version', version, 'held', 0, 'epoch', epoch)
        redis.call('PEXPIREAT', counter, forget)
        return used
    end
    local known_used, known_version = tonumber(known[1]), tonumber(known[2])
    if known_version > version or (known_version == version and known_used > used) then
        used, version = known_used, known_version -- a later commit was faster
    end
    redis.call('HSET', counter, 'used', used, 'version', version, 'held', held)
    return used + held
end

local function window(item, holds)
    redis.call('ZREM', holds, item.key .. ':' .. item.units .. ':' .. item.at)
    return -1
end

local results = {}
for n, sent in ipairs(items) do
    local record = key()
    local item = {key = sent[1], units = sent[2], at = sent[3]}
    local before = redis.call('GET', record)
    local result = {before and string.sub(before, 1, 1) == 'c' and 1 or 0}
    for line, counts in ipairs(sent[4]) do
        local counter, holds = key(), key()
        result[line + 1] = #counts == 0 and window(item, holds) or quota(item, counter, holds, unpack(counts))
    end
    if before and result[1] == 0 then
        redis.call('SET', record, 'c' .. string.sub(before, 2), 'KEEPTTL')
    end
    results[n] = result
end
return results
