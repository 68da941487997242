-- What all scripts share; the parts of the algorithms and then one of the scripts follow it.
--
-- KEYS, per item: its record; then per hold the counter and what is held of it. All lie in one slot.
-- ARGV[1] is a MessagePack array {now (ms, 0: this server's clock), whether to hold, epoch, items}. A hold is sent as {counter, limit, shadow, units,
-- units really used, length (ms), whether its holds have an expiry of their own, how long units may be used after their
-- grant (ms), when to forget the counter (ms), further parameters, units used as Postgres counts (-1: not known), and
-- the version of that count}.
--
-- A record says what became of a reservation: h (held) or c (committed), granted at, expires at, and the body, with colons
-- between.
--
-- Each algorithm adds its functions to `counters`:
--   see(hold)           fills in used, reset (ms), and for a request: refuses and retry (ms; 0: at the end of the period),
--                       and at, the earliest time (ms) of a slot; false when Postgres must be asked for the count first
--   take(hold, item)    holds hold.units from item.at on
--   commit(hold, item)  takes over what was really used; returns units used, or -1
--   release(hold, item) gives back

local ARGUMENTS = cmsgpack.unpack(ARGV[1])
local now, holding, epoch = ARGUMENTS[1], ARGUMENTS[2], ARGUMENTS[3]
if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local SPARE = 2 -- broadcasts leave one of so many units of a rate to replies
local LONGEST = 10000 -- how long (ms) units may last after their grant
local counters = {}
local k = 0

local function next_key()
    k = k + 1
    return KEYS[k]
end

local function read_hold(sent)
    local hold = {key = next_key(), holds = next_key(), counter = counters[sent[1]], limit = sent[2], shadow = sent[3],
        units = sent[4], actual = sent[5], length = sent[6], own_expiry = sent[7], lasts = sent[8], forget = sent[9],
        parameters = sent[10], loaded = sent[11], version = sent[12]}
    return hold
end

local function read_holds(sent)
    local holds = {}
    for n, each in ipairs(sent) do holds[n] = read_hold(each) end
    return holds
end

-- What is known of a reservation, unless that has expired: its record, and when it was granted.
local function read_record(item)
    local record = redis.call('GET', item.record)
    if not record then return end
    local granted, expires = string.match(record, '^%a(%d+):(%d+):')
    if tonumber(expires) > now then return record, tonumber(granted) end
end

local function is_committed(record)
    return record and string.sub(record, 1, 1) == 'c'
end

-- Units that are held until a time: members "key:units" of a sorted set by expiry, with their sum in `held` of a hash.

local function expire_held(hold)
    local gone = redis.call('ZRANGEBYSCORE', hold.holds, '-inf', now)
    if #gone == 0 then return end
    for _, member in ipairs(gone) do
        hold.held = hold.held - tonumber(string.match(member, ':(%d+)$'))
    end
    hold.held = math.max(hold.held, 0)
    redis.call('ZREMRANGEBYSCORE', hold.holds, '-inf', now)
    redis.call('HSET', hold.key, 'held', hold.held)
end

local function first_expiry(hold)
    local first = redis.call('ZRANGE', hold.holds, 0, 0, 'WITHSCORES')
    return first[2] and tonumber(first[2])
end

local function add_held(hold, item)
    if redis.call('ZADD', hold.holds, item.expires, item.key .. ':' .. hold.units) == 1 then
        redis.call('HINCRBY', hold.key, 'held', hold.units)
    end
end

local function drop_held(hold, item)
    if redis.call('ZREM', hold.holds, item.key .. ':' .. hold.units) == 1
        and redis.call('HEXISTS', hold.key, 'held') == 1 then
        redis.call('HINCRBY', hold.key, 'held', -hold.units)
    end
end
