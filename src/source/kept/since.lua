-- Says since when Redis has what is kept there: a note that would be lost with all the rest.
-- KEYS: the note, a hash.
-- ARGV: the milliseconds for which it is kept.
-- Returns which note it is, and the milliseconds since it was made; 0 where the clock has gone back.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local since = redis.call('HMGET', KEYS[1], 'since')[1]
if not since then
  since = string.format('%.0f', now)
  redis.call('HSET', KEYS[1], 'since', since)
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {since, string.format('%.0f', math.max(0, now - tonumber(since)))}
