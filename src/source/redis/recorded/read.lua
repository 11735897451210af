-- Reads a part of the log of a recorded channel, once the log reaches up to its end.
-- KEYS: the log. ARGV: the id after which to read, the last one, the most entries, their most bytes.
-- Returns the newest id; behind it, if that is not below the last one, the oldest id that is there, whether older ones
-- were ever removed, whether all is returned, the entries, and whether some may be missing at the end: the next entry is
-- a gap that begins before the last id.
local key = KEYS[1]
local function parse(id)
  local mark, k = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(mark), tonumber(k)
end
local info = redis.pcall('XINFO', 'STREAM', key)
if info.err then
  if not string.find(info.err, 'no such key', 1, true) then return info end
  return {'0-0'}
end
local top, first, length, ever = '0-0', '', 0, -1
for i = 1, #info, 2 do
  local name, value = info[i], info[i + 1]
  if name == 'last-generated-id' then top = value
  elseif name == 'length' then length = value
  elseif name == 'entries-added' then ever = value
  elseif name == 'first-entry' and type(value) == 'table' then first = value[1] end
end
local topMark, topK = parse(top)
local lastMark, lastK = parse(ARGV[2])
if topMark < lastMark or (topMark == lastMark and topK < lastK) then return {top} end
local entries = redis.call('XRANGE', key, '(' .. ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local isAll, bytes = 1, 0
if #entries == tonumber(ARGV[3]) then isAll = 0 end
for i, entry in ipairs(entries) do
  bytes = bytes + #entry[2][2]
  if i > 1 and bytes > tonumber(ARGV[4]) then
    for j = #entries, i, -1 do entries[j] = nil end
    isAll = 0
    break
  end
end
local isTrimmed = 1
if ever == length then isTrimmed = 0 end
local isCut = 0
local behind = redis.call('XRANGE', key, '(' .. ARGV[2], '+', 'COUNT', 1)[1]
if behind and behind[2][1] == 'g' then
  local mark, k = parse(behind[2][2])
  if mark and (mark < lastMark or (mark == lastMark and k < lastK)) then isCut = 1 end
end
return {top, first, isTrimmed, isAll, entries, isCut}
