-- Gives back what a reservation holds, unless it was committed. Again is the same as once.
--
-- ARGV[1]: {now, false, epoch, {{key, granted at (ms), holds}}}.

local sent = ARGUMENTS[4][1]
local item = {record = next_key(), key = sent[1], at = sent[2]}
local record = read_record(item)
if is_committed(record) then return 0 end
item.is_known = record ~= nil
redis.call('DEL', item.record)
for _, each in ipairs(read_holds(sent[3])) do each.counter.release(each, item) end
return 1
