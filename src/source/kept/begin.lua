-- Begins what Redis has of a kept stream; or begins it anew, after Redis has lost a part of it.
-- KEYS: its hash, its log.
-- ARGV: token, epoch, gateway, when it began, what describes it, the milliseconds of a lease, those for which it is kept,
-- hash of the request's body, if it is known.
-- Returns ok and why it is to stop, or fenced: it is another's, or has ended.
local known = redis.call('HMGET', KEYS[1], 'token', 'state', 'stop')
if known[1] and (known[1] ~= ARGV[1] or known[2] ~= 'running') then return {'fenced'} end
local time = redis.call('TIME')
local lease = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[6])
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'epoch', ARGV[2], 'gateway', ARGV[3], 'began', ARGV[4], 'about', ARGV[5], 'digest', ARGV[8],
  'state', 'running', 'seq', '0', 'last', '0', 'lease', string.format('%.0f', lease))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return {'ok', known[3] or '', '0', ''}
