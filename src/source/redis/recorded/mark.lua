-- Publishes a mark for all gateways: a number above every one before, about the time in milliseconds.
-- KEYS: what has the last mark. ARGV: the channel, a number that it has to be above, what stands behind it, by how many
-- milliseconds marks may be ahead of the clock, s if the channel is a sharded one. A number that is further ahead is none
-- of a mark, and does not count.
-- Returns the mark, and the time in milliseconds.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local mark = now
for _, before in ipairs({tonumber(redis.call('GET', KEYS[1]) or '0') or 0, tonumber(ARGV[2])}) do
  if before < now + tonumber(ARGV[4]) then mark = math.max(mark, before + 1) end
end
local text = string.format('%.0f', mark)
redis.call('SET', KEYS[1], text)
if ARGV[5] == 's' then
  redis.call('SPUBLISH', ARGV[1], text .. ' ' .. ARGV[3])
else
  redis.call('PUBLISH', ARGV[1], text .. ' ' .. ARGV[3])
end
return {text, now}
