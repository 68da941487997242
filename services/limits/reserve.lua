-- Decides a batch of reservations, each over all of its rules: all or nothing. One call is one moment: nothing comes
-- between its parts. Later items see what earlier ones took.
--
-- KEYS, per item: its record; then per line the counter and its holds.
-- ARGV: a MessagePack array {now (ms, 0: this server's clock), whether to hold, epoch, items}, then the items' bodies; an
-- item is {key, units, ttl (ms), longest wait (ms), lines}; a line
--   for a quota  {'q', limit, shadow, used as loaded from Postgres (-1: not), its version, when to forget it (ms)}
--   for a window {'e' (exact) or 'b' (buckets), limit, shadow, length (ms), whether its holds have their own expiry,
--                 for how long its units may be used after the grant (ms)}
--
-- Returns per item {answer, wait (ms), granted at (ms), record, refusing line, retry after (ms), then used and reset
-- (ms) of each line}. Answers: 0 granted, 1 refused, 2 a counter is missing, 3 granted before (then with the record). A
-- record is h (held) or c (committed), granted at, expires at, and the body, with colons between.
--
-- A quota's counter is a hash: used (as Postgres said last), version (grows with a reset), held, epoch. Its holds are a
-- sorted set of "key:units" by expiry. An exact window is a sorted set of "key:time:n", one per unit, by the
-- time until which it may be used; a bucketed one a hash of units by the number of that time's bucket. So a unit that lasts
-- is counted wherever it is used. Slots are granted in time order: nobody overtakes those who wait for theirs.

local BUCKETS = 60
local SHORTEST = 60000
local LONGEST = 10000 -- how long (ms) units may last after their grant
local LOT = -1 -- where a hash of buckets keeps the last bucket in which units are counted that last for a while
local MOST = 1001 -- units that an exact window notes of one reservation: more than any such window's limit
local now, hold, epoch, items = unpack(cmsgpack.unpack(ARGV[1]))
if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local k = 0

local function key()
    k = k + 1
    return KEYS[k]
end

-- Holds that ran out give back what they held.
local function expire_quota_holds(line)
    local gone = redis.call('ZRANGEBYSCORE', line.holds, '-inf', now)
    if #gone == 0 then return end
    for _, member in ipairs(gone) do
        line.held = line.held - tonumber(string.match(member, ':(%d+)$'))
    end
    line.held = math.max(line.held, 0)
    redis.call('ZREMRANGEBYSCORE', line.holds, '-inf', now)
    redis.call('HSET', line.key, 'held', line.held)
end

local function expire_window_holds(line)
    local gone = redis.call('ZRANGEBYSCORE', line.holds, '-inf', now)
    if #gone == 0 then return end
    for _, member in ipairs(gone) do
        local name, units, at = string.match(member, '^([^:]+):(%d+):(%d+)$')
        if line.kind == 'e' then
            for n = 1, math.min(tonumber(units), MOST) do redis.call('ZREM', line.key, name .. ':' .. at .. ':' .. n) end
        else
            redis.call('HINCRBY', line.key, math.floor(tonumber(at) / line.size), -tonumber(units))
        end
    end
    redis.call('ZREMRANGEBYSCORE', line.holds, '-inf', now)
end

-- Looks a quota up; false when Postgres must be asked first.
local function see_quota(line, units)
    local known = redis.call('HMGET', line.key, 'used', 'version', 'held', 'epoch')
    local used, version, held = tonumber(known[1]), tonumber(known[2]), tonumber(known[3] or 0)
    if not used or tonumber(known[4]) < epoch then
        local loaded, loaded_version = line.loaded, line.version
        if loaded < 0 then return false end
        if not used then
            redis.call('DEL', line.holds)
            held = 0
        elseif version > loaded_version or (version == loaded_version and used > loaded) then
            loaded, loaded_version = used, version -- a commit was faster than the load
        end
        used = loaded
        redis.call('HSET', line.key, 'used', used, 'version', loaded_version, 'held', held, 'epoch', epoch)
        redis.call('PEXPIREAT', line.key, line.forget)
    end
    line.held = held
    if held > 0 then expire_quota_holds(line) end
    line.used = used + line.held
    line.reset = 0
    if line.used + units > line.limit then
        line.refuses = true
        line.retry = 0 -- at the end of the day, or when a hold runs out
        if line.held > 0 and used + units <= line.limit then
            local first = redis.call('ZRANGE', line.holds, 0, 0, 'WITHSCORES')
            if first[2] then line.retry = tonumber(first[2]) - now end
        end
    end
    return true
end

-- The earliest time at which an exact window has room: after the last slot given, and when all but the newest
-- (limit - units) have left it.
local function see_exact(line, units)
    redis.call('ZREMRANGEBYSCORE', line.key, '-inf', now - line.length)
    expire_window_holds(line)
    local count = redis.call('ZCARD', line.key)
    line.used, line.at, line.reset = count, now, now
    if count == 0 then return end
    line.reset = tonumber(redis.call('ZRANGE', line.key, 0, 0, 'WITHSCORES')[2]) + line.length
    if units == 0 then return end
    line.at = math.max(now, tonumber(string.match(redis.call('ZRANGE', line.key, -1, -1)[1], ':(%d+):%d+$')))
    local stay = line.limit - units
    if stay >= 0 and count > stay then
        local leaving = redis.call('ZRANGE', line.key, count - stay - 1, count - stay - 1, 'WITHSCORES')[2]
        line.at = math.max(line.at, tonumber(leaving) + line.length)
    end
end

-- The same by buckets. A window that ends in bucket b touches the buckets from b - BUCKETS on at most, so counting all
-- of those never allows too much.
local function see_buckets(line, units)
    line.size = math.ceil(line.length / BUCKETS)
    expire_window_holds(line)
    local current = math.floor(now / line.size)
    local flat = redis.call('HGETALL', line.key)
    local filled, oldest, last, total = {}, nil, current, 0
    for n = 1, #flat, 2 do
        local bucket, count = tonumber(flat[n]), tonumber(flat[n + 1])
        if bucket == LOT then
            line.lot = count
        elseif bucket < current - BUCKETS or count <= 0 then
            redis.call('HDEL', line.key, flat[n])
        else
            filled[bucket] = count
            total = total + count
            if not oldest or bucket < oldest then oldest = bucket end
            if bucket > last then last = bucket end
        end
    end
    line.used, line.at = total, now
    line.reset = oldest and (oldest + BUCKETS + 1) * line.size or now
    if units == 0 or (last <= line.lot and total + units <= line.limit) then return end
    local sum = 0
    for bucket = last - BUCKETS, last do sum = sum + (filled[bucket] or 0) end
    local bucket = last
    while sum + units > line.limit and sum > 0 do
        sum = sum - (filled[bucket - BUCKETS] or 0)
        bucket = bucket + 1
    end
    if bucket > current then line.at = bucket * line.size end
end

local function see(line, units)
    if line.kind == 'q' then return see_quota(line, units) end
    if line.kind == 'e' then see_exact(line, units) else see_buckets(line, units) end
    if units > line.limit then
        line.refuses = true
        line.retry = line.length
    end
    return true
end

local function take(line, item, expires)
    line.used = line.used + item.units
    if line.kind == 'q' then
        if redis.call('ZADD', line.holds, expires, item.key .. ':' .. item.units) == 1 then
            redis.call('HINCRBY', line.key, 'held', item.units)
        end
        redis.call('PEXPIREAT', line.holds, line.forget)
        return
    end
    local last_use = item.at + line.lasts
    if line.kind == 'e' then
        for n = 1, math.min(item.units, MOST) do redis.call('ZADD', line.key, last_use, item.key .. ':' .. item.at .. ':' .. n) end
        if line.used == item.units then line.reset = last_use + line.length end
    else
        local bucket = math.floor(last_use / line.size)
        redis.call('HINCRBY', line.key, bucket, item.units)
        if line.lasts > 0 and bucket > line.lot then
            line.lot = bucket
            redis.call('HSET', line.key, LOT, bucket)
        end
        if line.used == item.units then line.reset = (bucket + BUCKETS + 1) * line.size end
    end
    -- The key outlives its last slot: it is written only to add one, and slots are granted in time order.
    redis.call('PEXPIRE', line.key, item.at - now + 2 * line.length + LONGEST)
    if line.own_expiry then
        redis.call('ZADD', line.holds, expires, item.key .. ':' .. item.units .. ':' .. item.at)
        redis.call('PEXPIRE', line.holds, item.at - now + 2 * line.length)
    end
end

local function read_line(sent)
    local line = {key = key(), holds = key(), kind = sent[1], limit = sent[2], shadow = sent[3]}
    if line.kind == 'q' then
        line.loaded, line.version, line.forget = sent[4], sent[5], sent[6]
    else
        line.length, line.own_expiry, line.lasts, line.lot = sent[4], sent[5], sent[6], -1
        line.size = math.ceil(line.length / BUCKETS)
    end
    return line
end

local function read_item(sent, body)
    local item = {record = key(), key = sent[1], body = body, units = sent[2], ttl = sent[3], patience = sent[4]}
    item.lines = {}
    for n, line in ipairs(sent[5]) do item.lines[n] = read_line(line) end
    return item
end

-- How long (ms) a record is of use after the grant. Where every window has forgotten the units before the reservation
-- ends, nothing is left to settle: providers' slots, one per call, would fill the memory.
local function life(item)
    local longest = SHORTEST
    for _, line in ipairs(item.lines) do
        if line.kind == 'q' or line.own_expiry then return item.ttl end
        longest = math.max(longest, line.length + line.lasts)
    end
    return math.min(item.ttl, longest)
end

local function decide(item)
    local before = hold and redis.call('GET', item.record)
    if before and tonumber(string.match(before, '^%a%d+:(%d+):')) <= now then before = false end
    local complete, refusing, at = true, 0, now
    for _, line in ipairs(item.lines) do complete = see(line, before and 0 or item.units) and complete end
    if not complete then return {2} end
    item.at = now
    for n, line in ipairs(item.lines) do
        if line.at and not line.refuses and not line.shadow then
            if line.at - now > item.patience then
                line.refuses = true
                line.retry = line.at - now
            elseif line.at > item.at then
                item.at = line.at
            end
        end
        if line.refuses and not line.shadow and not before
            and (refusing == 0 or (item.lines[refusing].retry > 0
                and (line.retry == 0 or line.retry > item.lines[refusing].retry))) then
            refusing = n
        end
    end
    local result
    if before then
        local at = tonumber(string.match(before, '^%a(%d+):'))
        result = {3, at - now, at, before, 0, 0}
    elseif refusing > 0 then
        result = {1, 0, now, '', refusing, item.lines[refusing].retry}
    else
        if hold then
            local expires = item.at + item.ttl
            for _, line in ipairs(item.lines) do take(line, item, expires) end
            local record = 'h' .. item.at .. ':' .. expires .. ':' .. item.body
            redis.call('SET', item.record, record, 'PX', item.at - now + life(item))
        end
        result = {0, item.at - now, item.at, '', 0, 0}
    end
    for _, line in ipairs(item.lines) do
        result[#result + 1] = line.used
        result[#result + 1] = line.reset
    end
    return result
end

local results = {}
for n, sent in ipairs(items) do results[n] = decide(read_item(sent, ARGV[n + 1])) end
return results
