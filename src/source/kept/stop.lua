-- Cancels a kept stream, wherever it runs; or a request that has none yet.
-- KEYS: its hash.
-- ARGV: id, why, the gateway that is told if Redis has no such stream. That is also kept for a minute: what is published
-- may not be heard. Why is one word; behind an @ it says for which path alone. Those for other paths count as well: the
-- newest 32 are kept, and a word for all paths needs no further one.
-- Returns its state before; nothing: there is none.
local known = redis.call('HMGET', KEYS[1], 'state', 'gateway', 'lease', 'followers', 'stop')
local words, isNew = {}, true
for word in string.gmatch(known[5] or '', '[^ ]+') do
  words[#words + 1] = word
  if word == ARGV[2] or not string.find(word, '@', 1, true) then isNew = false end
end
if isNew then words[#words + 1] = ARGV[2] end
if #words > 32 then table.remove(words, 1) end
local stop = table.concat(words, ' ')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local message = 's ' .. ARGV[1] .. ' ' .. ARGV[2]
if not known[1] then
  if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[1], 'stop', stop)
    redis.call('PEXPIRE', KEYS[1], '60000')
    redis.pcall('PUBLISH', 'ssegate:kept:' .. ARGV[3], message)
  end
  return {}
end
if known[1] == 'running' then
  redis.call('HSET', KEYS[1], 'stop', stop)
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
