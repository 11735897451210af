-- Where the newest entries of a recorded channel begin.
-- KEYS: the log. ARGV: how many; 0 for all.
-- Returns the id of the oldest of them, and 1 if it is a gap; nothing if there are none.
local entries
if ARGV[1] == '0' then
  entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', '1')
else
  entries = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1])
end
local oldest = entries[#entries]
if not oldest then return {} end
return {oldest[1], oldest[2][1] == 'g' and 1 or 0}
