-- Sliding windows. An exact window is a sorted set of "key:granted at:n", one member per unit, by the time until which the
-- unit may be used; a bucketed one a hash of units by the number of that time's bucket. So a unit that lasts is counted
-- wherever it is used. Holds with an expiry of their own are members "key:units:granted at" of a sorted set.
--
-- Slots are granted in the order of time: nobody overtakes those who wait for theirs.

local BUCKETS = 60
local LOT = -1 -- where a hash of buckets keeps the last bucket in which units are counted that last for a while
local MOST = 1001 -- units that an exact window notes of one reservation: more than any such window's limit

local function bucket_size(hold)
    return math.ceil(hold.length / BUCKETS)
end

local function member(key, at, n)
    return key .. ':' .. at .. ':' .. n
end

-- Changes what is noted of a reservation from so many units to so many. `last_use` is the time until which they may be used.
local function exact_change(hold, key, at, last_use, from, to)
    for n = to + 1, math.min(from, MOST) do redis.call('ZREM', hold.key, member(key, at, n)) end
    for n = from + 1, math.min(to, MOST) do redis.call('ZADD', hold.key, last_use, member(key, at, n)) end
end

local function bucket_change(hold, _, _, last_use, from, to)
    local bucket = math.floor(last_use / bucket_size(hold))
    if redis.call('HEXISTS', hold.key, bucket) == 1 then redis.call('HINCRBY', hold.key, bucket, to - from) end
end

local function expire_window_holds(hold, change)
    local gone = redis.call('ZRANGEBYSCORE', hold.holds, '-inf', now)
    if #gone == 0 then return end
    for _, each in ipairs(gone) do
        local key, units, at = string.match(each, '^([^:]+):(%d+):(%d+)$')
        change(hold, key, at, tonumber(at), tonumber(units), 0)
    end
    redis.call('ZREMRANGEBYSCORE', hold.holds, '-inf', now)
end

-- The earliest time at which there is room: after the last slot given, and when all but the newest (limit - units) have
-- left the window.
local function see_exact(hold)
    redis.call('ZREMRANGEBYSCORE', hold.key, '-inf', now - hold.length)
    expire_window_holds(hold, exact_change)
    local count = redis.call('ZCARD', hold.key)
    hold.used, hold.at, hold.reset = count, now, now
    if count == 0 then return end
    hold.reset = tonumber(redis.call('ZRANGE', hold.key, 0, 0, 'WITHSCORES')[2]) + hold.length
    if hold.units == 0 then return end
    hold.at = math.max(now, tonumber(string.match(redis.call('ZRANGE', hold.key, -1, -1)[1], ':(%d+):%d+$')))
    local stay = hold.limit - hold.spare - hold.units
    if stay >= 0 and count > stay then
        local leaving = redis.call('ZRANGE', hold.key, count - stay - 1, count - stay - 1, 'WITHSCORES')[2]
        hold.at = math.max(hold.at, tonumber(leaving) + hold.length)
    end
end

-- The same by buckets. A window that ends in bucket b touches the buckets from b - BUCKETS on at most, so counting all
-- of those never allows too much.
local function see_buckets(hold)
    local size, limit, units = bucket_size(hold), hold.limit - hold.spare, hold.units
    hold.lot = -1
    expire_window_holds(hold, bucket_change)
    local current = math.floor(now / size)
    local flat = redis.call('HGETALL', hold.key)
    local filled, oldest, last, total = {}, nil, current, 0
    for n = 1, #flat, 2 do
        local bucket, count = tonumber(flat[n]), tonumber(flat[n + 1])
        if bucket == LOT then
            hold.lot = count
        elseif bucket < current - BUCKETS or count <= 0 then
            redis.call('HDEL', hold.key, flat[n])
        else
            filled[bucket] = count
            total = total + count
            if not oldest or bucket < oldest then oldest = bucket end
            if bucket > last then last = bucket end
        end
    end
    hold.used, hold.at = total, now
    hold.reset = oldest and (oldest + BUCKETS + 1) * size or now
    if units == 0 or (last <= hold.lot and total + units <= limit) then return end
    local sum = 0
    for bucket = last - BUCKETS, last do sum = sum + (filled[bucket] or 0) end
    local bucket = last
    while sum + units > limit and sum > 0 do
        sum = sum - (filled[bucket - BUCKETS] or 0)
        bucket = bucket + 1
    end
    if bucket > current then hold.at = bucket * size end
end

local function take_exact(hold, item)
    local last_use = item.at + hold.lasts
    exact_change(hold, item.key, item.at, last_use, 0, hold.units)
    if hold.used == hold.units then hold.reset = last_use + hold.length end
end

local function take_buckets(hold, item)
    local size = bucket_size(hold)
    local bucket = math.floor((item.at + hold.lasts) / size)
    redis.call('HINCRBY', hold.key, bucket, hold.units)
    if hold.lasts > 0 and bucket > hold.lot then redis.call('HSET', hold.key, LOT, bucket) end
    if hold.used == hold.units then hold.reset = (bucket + BUCKETS + 1) * size end
end

local function window_counter(see, take, change)
    -- Changes what a reservation has used, unless its hold has expired, or the window has forgotten it.
    local function settle(hold, item, used)
        if hold.own_expiry then
            expire_window_holds(hold, change)
            local held = redis.call('ZREM', hold.holds, item.key .. ':' .. hold.units .. ':' .. item.at)
            if held == 0 then return end
        end
        if used ~= hold.units and redis.call('EXISTS', hold.key) == 1 then
            change(hold, item.key, item.at, item.at + hold.lasts, hold.units, used)
        end
    end

    return {
        see = function(hold)
            see(hold)
            if hold.units > hold.limit - hold.spare then
                hold.refuses = true
                hold.retry = hold.length
            end
            return true
        end,

        take = function(hold, item)
            take(hold, item)
            -- The key outlives its last slot: it is written only to add one, and slots are granted in time order.
            redis.call('PEXPIRE', hold.key, item.at - now + 2 * hold.length + LONGEST)
            if hold.own_expiry then
                redis.call('ZADD', hold.holds, item.expires, item.key .. ':' .. hold.units .. ':' .. item.at)
                redis.call('PEXPIRE', hold.holds, item.at - now + 2 * hold.length)
            end
        end,

        commit = function(hold, item)
            -- Without the record of the reservation nobody can tell whether its units are still there.
            settle(hold, item, item.is_first and hold.actual or hold.units)
            return -1
        end,

        release = function(hold, item)
            if item.is_known then settle(hold, item, 0) end
        end,
    }
end

counters.e = window_counter(see_exact, take_exact, exact_change)
counters.b = window_counter(see_buckets, take_buckets, bucket_change)
