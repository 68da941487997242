-- Decides a batch of reservations, each under all of its rules: all or nothing. One call is one moment: nothing comes
-- between its parts. Later items see what earlier ones took.
--
-- ARGV[1]: {now, whether to hold, epoch, items}; then the items' bodies. An item is {key, ttl (ms), longest wait (ms),
-- whether it is a broadcast, how long its record is of use after the grant (ms), holds}.
--
-- Returns per item {answer, wait (ms), granted at (ms), record, refusing hold, retry after (ms), then used and reset
-- (ms) of each hold}. Answers: 0 granted, 1 refused, 2 a counter is missing, 3 granted before (then with the record).

local function read_item(sent, body)
    local item = {record = next_key(), key = sent[1], ttl = sent[2], patience = sent[3], broadcast = sent[4],
        life = sent[5], body = body}
    item.holds = read_holds(sent[6])
    -- Broadcasts get what is free now, and leave a share of every rate to replies.
    if item.broadcast then item.patience = 0 end
    for _, hold in ipairs(item.holds) do
        hold.spare = item.broadcast and math.floor(hold.limit / SPARE) or 0
    end
    return item
end

local function is_refused_longer(hold, other)
    return other.retry > 0 and (hold.retry == 0 or hold.retry > other.retry)
end

local function look(item)
    local refusing, complete = 0, true
    for _, hold in ipairs(item.holds) do
        if item.before then hold.units = 0 end
        complete = hold.counter.see(hold) and complete
    end
    item.at = now
    for n, hold in ipairs(item.holds) do
        if hold.at and not hold.refuses and not hold.shadow then
            if hold.at - now > item.patience then
                hold.refuses = true
                hold.retry = hold.at - now
            elseif hold.at > item.at then
                item.at = hold.at
            end
        end
        if hold.refuses and not hold.shadow and not item.before
            and (refusing == 0 or is_refused_longer(hold, item.holds[refusing])) then
            refusing = n
        end
    end
    return complete, refusing
end

local function take(item)
    item.expires = item.at + item.ttl
    for _, each in ipairs(item.holds) do
        each.used = each.used + each.units
        each.counter.take(each, item)
    end
    local record = 'h' .. item.at .. ':' .. item.expires .. ':' .. item.body
    redis.call('SET', item.record, record, 'PX', item.at - now + item.life)
end

local function decide(item)
    local before, at
    if holding then before, at = read_record(item) end
    item.before = before
    local complete, refusing = look(item)
    if not complete then return {2} end
    local result
    if before then
        result = {3, at - now, at, before, 0, 0}
    elseif refusing > 0 then
        result = {1, 0, now, '', refusing, item.holds[refusing].retry}
    else
        if holding then take(item) end
        result = {0, item.at - now, item.at, '', 0, 0}
    end
    for _, each in ipairs(item.holds) do
        result[#result + 1] = each.used
        result[#result + 1] = each.reset
    end
    return result
end

local results = {}
for n, sent in ipairs(ARGUMENTS[4]) do results[n] = decide(read_item(sent, ARGV[n + 1])) end
return results
