-- Tries each command of the scripts beside this one on a key that does not exist, in ways that write nothing there.
-- KEYS: the log of a channel that no client has. ARGV: the channel of marks, where gateways ignore an empty message, and s if
-- that is a sharded one.
-- Returns nothing, or which command is refused, and how.
local key = KEYS[1]
local commands = {
  {'TIME'},
  {'GET', key},
  {'SET', key, '', 'XX'},
  {'XINFO', 'STREAM', key},
  {'XADD', key, 'NOMKSTREAM', 'MAXLEN', '~', '1', '*', 'm', ''},
  {'XSETID', key, '1-1'},
  {'XTRIM', key, 'MINID', '~', '0'},
  {'PEXPIRE', key, '1'},
  {'XRANGE', key, '-', '+', 'COUNT', '1'},
  {'XREVRANGE', key, '+', '-', 'COUNT', '1'},
  {'PUBLISH', ARGV[1], ''},
}
if ARGV[2] == 's' then commands[#commands] =
  {'SPUBLISH', ARGV[1], ''}
end
for _, command in ipairs(commands) do
  local result = redis.pcall(unpack(command))
  local fault = type(result) == 'table' and result.err
  if fault and not string.find(fault, 'no such key', 1, true) then return {command[1], fault} end
end
return {}
