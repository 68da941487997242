-- Ends the holds of committed reservations, and takes over what was really used.
--
-- ARGV[1]: {now, false, epoch, items}; an item is {key, granted at (ms), holds}.
--
-- Returns per item {1 when it had been committed as far as Redis knows, used of each hold, ...}; -1 where only Redis counts.

local results = {}
for n, sent in ipairs(ARGUMENTS[4]) do
    local item = {record = next_key(), key = sent[1], at = sent[2]}
    local before = read_record(item)
    item.is_first = before and not is_committed(before)
    local result = {is_committed(before) and 1 or 0}
    for number, each in ipairs(read_holds(sent[3])) do result[number + 1] = each.counter.commit(each, item) end
    if item.is_first then redis.call('SET', item.record, 'c' .. string.sub(before, 2), 'KEEPTTL') end
    results[n] = result
end
return results
