-- Appends to the log of a kept stream, and renews its lease: in one step with the look at the token.
-- KEYS: its hash, its log.
-- ARGV: id, token, epoch, number of the entry, number of the oldest entry to keep, the milliseconds of a lease, those
-- for which it is kept, state, hash of the request's body, whether its events are numbered, number of the last event,
-- then what an entry has, if there is one: where it is in the stream, and bytes. Without, the number is that of the
-- last entry.
-- Returns ok, why it is to stop, how many gateways follow it, and why they could not be told; or fenced: it is
-- another's, or another has ended it; or gone: Redis does not have what was appended before.
local key = KEYS[1]
local known = redis.call('HMGET', key, 'token', 'epoch', 'seq', 'state', 'stop', 'followers')
if not known[1] then return {'gone'} end
if known[1] ~= ARGV[2] then return {'fenced'} end
if known[4] ~= 'running' then
  -- The reply to its end was lost.
  if known[4] == ARGV[8] then return {'ok', '', '0', ''} end
  return {'fenced'}
end
if known[2] ~= ARGV[3] then return {'gone'} end
local top, seq = tonumber(known[3]), tonumber(ARGV[4])
local hasEntry = #ARGV >= 13
if top < seq - (hasEntry and 1 or 0) then return {'gone'} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if hasEntry and top == seq - 1 then
  redis.call('XADD', KEYS[2], ARGV[4] .. '-0', 'at', ARGV[12], 'bytes', ARGV[13])
  redis.call('XTRIM', KEYS[2], 'MINID', ARGV[5] .. '-0')
  redis.call('HSET', key, 'seq', ARGV[4])
end
local live, names = {}, {}
for name, till in string.gmatch(known[6] or '', '([^ =]+)=(%d+)') do
  if tonumber(till) > now then
    live[#live + 1] = name .. '=' .. till
    names[#names + 1] = name
  end
end
redis.call('HSET', key, 'lease', string.format('%.0f', now + tonumber(ARGV[6])), 'state', ARGV[8], 'digest', ARGV[9],
  'numbered', ARGV[10], 'last', ARGV[11], 'followers', table.concat(live, ' '))
redis.call('PEXPIRE', key, ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
local fault = ''
if hasEntry or ARGV[8] ~= 'running' then
  for _, name in ipairs(names) do
    local told = redis.pcall('PUBLISH', 'ssegate:kept:' .. name, 'w ' .. ARGV[1])
    if type(told) == 'table' and told.err then fault = told.err end
  end
end
return {'ok', known[5] or '', tostring(#names), fault}
