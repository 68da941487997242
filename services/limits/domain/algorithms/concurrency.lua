-- Concurrency limits. The counter is a hash with the units that are held; nothing else is used.

local ASK_AGAIN = 1000 -- ms: a hold may end long before it expires

counters.c = {
    see = function(hold)
        hold.held = tonumber(redis.call('HGET', hold.key, 'held') or 0)
        if hold.held > 0 then expire_held(hold) end
        hold.used = hold.held
        hold.reset = first_expiry(hold) or now
        if hold.used + hold.units > hold.limit then
            hold.refuses = true
            hold.retry = math.max(math.min(hold.reset - now, ASK_AGAIN), 1)
        end
        return true
    end,

    take = function(hold, item)
        add_held(hold, item)
        -- Both keys outlive the last hold, and are never read apart.
        local longest = math.max(redis.call('PTTL', hold.key), item.expires - now + 1000)
        redis.call('PEXPIRE', hold.key, longest)
        redis.call('PEXPIRE', hold.holds, longest)
        if hold.used == hold.units then hold.reset = item.expires end
    end,

    commit = function(hold, item)
        drop_held(hold, item)
        return -1
    end,

    release = drop_held,
}
