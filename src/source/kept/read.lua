-- Reads what Redis has of a kept stream, and says that this gateway follows it.
-- KEYS: its hash, its log.
-- ARGV: id, the epoch that is known, the last entry that is known, how many entries at most, this gateway, for how many
-- milliseconds it follows, 1 if what describes the stream is wanted, and 1 if a lease that is over ends it. It does so
-- with the second look that finds it over, two seconds after the first one: where Redis was away for all gateways, those
-- that live have then said so, and what was sent before has come.
-- Returns nothing if there is none; otherwise its state, epoch, number of the last event, hash of the request's body,
-- whether its events are numbered, when and where it began, what describes it, until when its pump is taken to live, and
-- entries.
local key = KEYS[1]
local known = redis.call('HMGET', key, 'state', 'lease', 'epoch', 'last', 'digest', 'numbered', 'began', 'gateway',
  'followers', 'doubted')
if not known[1] or not known[3] then return {} end
local state = known[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local live, isNew = {}, true
for name, till in string.gmatch(known[9] or '', '([^ =]+)=(%d+)') do
  if name == ARGV[5] then
    isNew = false
  elseif tonumber(till) > now then
    live[#live + 1] = name .. '=' .. till
  end
end
local lease, doubted = tonumber(known[2]), tonumber(known[10] or '0')
local isOver = state == 'running' and lease < now and ARGV[8] == '1'
if isOver and doubted <= lease then
  doubted = now
  redis.call('HSET', key, 'doubted', string.format('%.0f', now))
end
if isOver and now - doubted >= 2000 then
  state = 'lost'
  redis.call('HSET', key, 'state', state)
  live[#live + 1] = known[8] .. '=0'
  for _, follower in ipairs(live) do
    redis.pcall('PUBLISH', 'ssegate:kept:' .. string.match(follower, '^[^=]+'), 'w ' .. ARGV[1])
  end
elseif state == 'running' and ARGV[6] ~= '0' then
  live[#live + 1] = ARGV[5] .. '=' .. string.format('%.0f', now + tonumber(ARGV[6]))
  redis.call('HSET', key, 'followers', table.concat(live, ' '))
  -- It is to know at once that somebody reads.
  if isNew then redis.pcall('PUBLISH', 'ssegate:kept:' .. known[8], 'w ' .. ARGV[1]) end
end
local after = ARGV[3]
if known[3] ~= ARGV[2] then after = '0' end
local about, entries = '', {}
if ARGV[7] == '1' then about = redis.call('HMGET', key, 'about')[1] or '' end
if ARGV[4] ~= '0' then
  entries = redis.call('XRANGE', KEYS[2], tostring(tonumber(after) + 1) .. '-0', '+', 'COUNT', ARGV[4])
end
return {state, known[3], known[4] or '0', known[5] or '', known[6] or '', known[7] or '0', known[8] or '', about, known[2] or '0',
  entries}
