-- The streams of one name, or of one request, of all gateways: each under its id, with what it is (r: it runs, or
-- waits for the backend; e: it has ended), until when that counts, when it began, and where.
-- KEYS: the index, a hash.
-- ARGV: what is done (list, claim, keep, end or remove), id, when it began, this gateway, for how many milliseconds it
-- counts, what becomes of others that run (parallel, replace or reject), how many there may be.
-- Returns refused, or ok and, for each of the others, its id, what it is, when and where it began.
local key, what, own = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local all, others, last, runs = redis.call('HGETALL', key), {}, now, false
local oldest, oldestBegan
for i = 1, #all, 2 do
  local id, kind, till, began, gateway = all[i], string.match(all[i + 1], '^(%a) (%d+) (%d+) (%S+)$')
  if not kind or tonumber(till) < now then
    redis.call('HDEL', key, id)
  elseif id ~= own then
    others[#others + 1] = {id, kind, began, gateway}
    last = math.max(last, tonumber(till))
    if kind == 'r' then runs = true end
    if not oldest or tonumber(began) < oldestBegan then oldest, oldestBegan = id, tonumber(began) end
  end
end
if what == 'claim' and ARGV[6] == 'reject' and runs then return {'refused'} end
if what == 'remove' then
  redis.call('HDEL', key, own)
elseif what ~= 'list' then
  if #others >= tonumber(ARGV[7]) then redis.call('HDEL', key, oldest) end
  local till = now + tonumber(ARGV[5])
  local kind = what == 'end' and 'e' or 'r'
  redis.call('HSET', key, own, kind .. ' ' .. string.format('%.0f', till) .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(last, till) - now + 1000))
end
local reply = {'ok'}
for _, other in ipairs(others) do
  for _, part in ipairs(other) do reply[#reply + 1] = part end
end
return reply
