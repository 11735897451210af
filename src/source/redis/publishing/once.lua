-- Makes publications once for a key, in one step: a reply that is lost, or a gateway that dies, can neither
-- publish them twice nor leave the key behind without its result.
-- KEYS: the key, then the logs that are added to.
-- ARGV: the fingerprint, the seconds for which the result is kept, then each command after its length.
-- Returns nil if the key was used for something else; else K for a kept result or N for a new one, and a line
-- for each command: the receivers after a colon, the id after a plus, the error after a minus.
local length = #ARGV[1]
local kept = redis.call('GET', KEYS[1])
if kept then
  if string.sub(kept, 1, length) ~= ARGV[1] then return false end
  return 'K' .. string.sub(kept, length + 1)
end
-- First, so that nothing is published that cannot be kept.
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local lines, published, at = {}, false, 3
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local command = {}
  for i = 1, count do command[i] = ARGV[at + i] end
  at = at + count + 1
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'number' then
    lines[#lines + 1] = ':' .. reply
    published = true
  elseif type(reply) == 'string' then
    lines[#lines + 1] = '+' .. reply
    published = true
  else
    local message = type(reply) == 'table' and reply.err or 'ERR no reply'
    lines[#lines + 1] = '-' .. string.gsub(message, '[\r\n]', ' ')
  end
end
local result = table.concat(lines, '\n')
if published then
  redis.pcall('SET', KEYS[1], ARGV[1] .. result, 'EX', ARGV[2])
else
  redis.pcall('DEL', KEYS[1])
end
return 'N' .. result
