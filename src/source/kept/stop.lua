-- Cancels a kept stream, wherever it runs; or a request that has none yet.
-- KEYS: its hash.
-- ARGV: id, why, the gateway that is told if Redis has no such stream. That is also kept for a minute: what is published
-- may not be heard.
-- Returns its state before; nothing: there is none.
local known = redis.call('HMGET', KEYS[1], 'state', 'gateway', 'lease', 'followers')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local message = 's ' .. ARGV[1] .. ' ' .. ARGV[2]
if not known[1] then
  if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[1], 'stop', ARGV[2])
    redis.call('PEXPIRE', KEYS[1], '60000')
    redis.pcall('PUBLISH', 'ssegate:kept:' .. ARGV[3], message)
  end
  return {}
end
if known[1] == 'running' then
  redis.call('HSET', KEYS[1], 'stop', ARGV[2])
  redis.pcall('PUBLISH', 'ssegate:kept:' .. known[2], message)
  if tonumber(known[3]) < now then
    -- Nobody is left to end it.
    redis.call('HSET', KEYS[1], 'state', 'cancelled')
    for name in string.gmatch(known[4] or '', '([^ =]+)=%d+') do
      redis.pcall('PUBLISH', 'ssegate:kept:' .. name, 'w ' .. ARGV[1])
    end
  end
end
return {known[1]}
