-- Token buckets. The counter is a hash: `level`, the units that are missing at the time `since` (ms). They come back
-- evenly, so the level at another time follows from it, also at an earlier one.
--
-- Units that may be used later are counted from their last moment on. Until then the bucket gains nothing by waiting, so
-- that they and what is granted meanwhile stay within a burst and the refill.

local NEARLY = 1e-6 -- what arithmetic may be wrong by

local function rate_of(hold)
    return hold.parameters[1] / hold.parameters[2]
end

local function read_bucket(hold)
    local known = redis.call('HMGET', hold.key, 'level', 'since')
    hold.rate, hold.level, hold.since = rate_of(hold), tonumber(known[1] or 0), tonumber(known[2] or 0)
end

local function level_at(hold, time)
    local level = math.max(0, hold.level - (time - hold.since) * hold.rate)
    if hold.shadow then level = math.min(level, hold.limit) end -- it lets everything through, and owes nothing
    return level
end

local function write_bucket(hold, level, since)
    if level < NEARLY then
        redis.call('DEL', hold.key)
        return
    end
    hold.level, hold.since = level, since
    redis.call('HSET', hold.key, 'level', string.format('%.17g', level), 'since', since)
    redis.call('PEXPIRE', hold.key, since - now + math.ceil(level / hold.rate))
end

-- Gives back units of a reservation. What was refilled since its slot could have overflowed without it, so only the rest
-- is given back; otherwise a bucket could give more than its burst.
local function give_back(hold, item, units)
    local rest = units - math.max(now - item.at, 0) * hold.rate
    if rest > 0 then write_bucket(hold, math.max(0, level_at(hold, now) - rest), now) end
end

counters.t = {
    see = function(hold)
        hold.used, hold.at, hold.reset = hold.limit, now, now
        if hold.limit == 0 then
            hold.refuses, hold.retry = true, hold.length
            return true
        end
        read_bucket(hold)
        local level, free = level_at(hold, now), hold.limit - hold.spare
        hold.used = math.ceil(level - NEARLY)
        hold.reset = now + math.ceil(level / hold.rate)
        if hold.units > free then
            hold.refuses, hold.retry = true, hold.length
        elseif hold.units > 0 then
            hold.at = now + math.max(0, math.ceil((level + hold.units - free) / hold.rate - NEARLY))
        end
        return true
    end,

    take = function(hold, item)
        if hold.limit == 0 then return end -- it only watches
        local last_use = item.at + hold.lasts
        write_bucket(hold, level_at(hold, last_use) + hold.units, last_use)
        hold.reset = last_use + math.ceil(hold.level / hold.rate)
    end,

    commit = function(hold, item)
        if item.is_first and hold.limit > 0 then
            read_bucket(hold)
            local more = hold.actual - hold.units
            if more > 0 then write_bucket(hold, level_at(hold, now) + more, now) end
            if more < 0 then give_back(hold, item, -more) end
        end
        return -1
    end,

    release = function(hold, item)
        if item.is_known and hold.limit > 0 then
            read_bucket(hold)
            give_back(hold, item, hold.units)
        end
    end,
}
