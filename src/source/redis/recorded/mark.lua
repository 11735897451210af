-- Publishes a mark for all gateways: a number above every one before, about the time in milliseconds.
-- KEYS: what has the last mark. ARGV: the channel, a number that it has to be above, what stands behind it.
-- Returns the mark.
local time = redis.call('TIME')
local mark = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
mark = math.max(mark, last + 1, tonumber(ARGV[2]) + 1)
local text = string.format('%.0f', mark)
redis.call('SET', KEYS[1], text)
redis.call('PUBLISH', ARGV[1], text .. ' ' .. ARGV[3])
return text
