-- Calendar quotas and budgets. The counter is a hash: used (as Postgres said last), version (grows with a reset), held,
-- epoch. It never adds up by itself.

counters.q = {
    see = function(hold)
        local known = redis.call('HMGET', hold.key, 'used', 'version', 'held', 'epoch')
        local used, version, held = tonumber(known[1]), tonumber(known[2]), tonumber(known[3] or 0)
        if not used or tonumber(known[4]) < epoch then
            local loaded, loaded_version = hold.loaded, hold.version
            if loaded < 0 then return false end
            if not used then
                redis.call('DEL', hold.holds)
                held = 0
            elseif version > loaded_version or (version == loaded_version and used > loaded) then
                loaded, loaded_version = used, version -- a commit was faster than the load
            end
            used = loaded
            redis.call('HSET', hold.key, 'used', used, 'version', loaded_version, 'held', held, 'epoch', epoch)
            redis.call('PEXPIREAT', hold.key, hold.forget)
        end
        hold.held = held
        if held > 0 then expire_held(hold) end
        hold.used = used + hold.held
        hold.reset = 0
        if hold.used + hold.units > hold.limit then
            hold.refuses = true
            hold.retry = 0 -- at the end of the period, or when a hold expires
            if hold.held > 0 and used + hold.units <= hold.limit then
                hold.retry = (first_expiry(hold) or now) - now
            end
        end
        return true
    end,

    take = function(hold, item)
        add_held(hold, item)
        redis.call('PEXPIREAT', hold.holds, hold.forget)
    end,

    commit = function(hold, item)
        local used, version = hold.loaded, hold.version
        local known = redis.call('HMGET', hold.key, 'used', 'version', 'held')
        local held = tonumber(known[3] or 0)
        if redis.call('ZREM', hold.holds, item.key .. ':' .. hold.units) == 1 then
            held = math.max(held - hold.units, 0)
        end
        if not known[1] then
            redis.call('DEL', hold.holds)
            redis.call('HSET', hold.key, 'used', used, 'version', version, 'held', 0, 'epoch', epoch)
            redis.call('PEXPIREAT', hold.key, hold.forget)
            return used
        end
        local known_used, known_version = tonumber(known[1]), tonumber(known[2])
        if known_version > version or (known_version == version and known_used > used) then
            used, version = known_used, known_version -- a later commit was faster
        end
        redis.call('HSET', hold.key, 'used', used, 'version', version, 'held', held)
        return used + held
    end,

    release = drop_held,
}
