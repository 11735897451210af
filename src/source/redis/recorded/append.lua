-- Appends to the log of a recorded channel; the rule is that of `AppendRequest::apply` in crates/record.
-- KEYS: the log, a Redis Stream.
-- ARGV: since, 1 if there may be a gap, the most entries, the milliseconds for which they are kept, then for each item
-- its id, its kind (m: a message, l: one that was too large, s: a seal) and its payload.
-- Returns the newest id, whether entries are missing before since, how many entries were added, and of them gaps.
local key = KEYS[1]
local function parse(id)
  local mark, k = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(mark), tonumber(k)
end
local top = '0-0'
local info = redis.pcall('XINFO', 'STREAM', key)
if info.err then
  if not string.find(info.err, 'no such key', 1, true) then return info end
else
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then top = info[i + 1] end
  end
end
local topMark, topK = parse(top)
local function isAfterTop(mark, k)
  return mark > topMark or (mark == topMark and k > topK)
end
local added, gaps = 0, 0
local sinceMark, sinceK = parse(ARGV[1])
if isAfterTop(sinceMark, sinceK) then
  if ARGV[2] ~= '1' then return {top, 1, 0, 0} end
  -- With the newest id before it: what follows that is missing, up to here.
  redis.call('XADD', key, ARGV[1], 'g', top)
  top, topMark, topK, added, gaps = ARGV[1], sinceMark, sinceK, 1, 1
end
for i = 5, #ARGV, 3 do
  local mark, k = parse(ARGV[i])
  if isAfterTop(mark, k) then
    if ARGV[i + 1] == 's' then
      redis.call('XSETID', key, ARGV[i])
    else
      redis.call('XADD', key, 'MAXLEN', '~', ARGV[3], ARGV[i], ARGV[i + 1], ARGV[i + 2])
      added = added + 1
    end
    top, topMark, topK = ARGV[i], mark, k
  end
end
if added > 0 then
  local time = redis.call('TIME')
  local oldest = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[4])
  redis.call('XTRIM', key, 'MINID', '~', string.format('%.0f', math.max(oldest, 0)))
  redis.call('PEXPIRE', key, ARGV[4])
end
return {top, 0, added, gaps}
