-- Tells Redis of the members of one gateway, in one step for each channel: who came and went is decided here,
-- once for the whole fleet.
-- KEYS: a hash for each channel. Its field "g" has the leases of the gateways that have members there, as
-- gateway=end. Its fields "m" + name have the members: since, then gateway:streams for each gateway.
-- ARGV: the gateway, its lease in milliseconds, whether leases of others may end; then for each channel: whether
-- it may be unknown here that this gateway has members, what becomes of its lease (1: it has members after this, 0: it
-- has none, k: it only looks for those that have ended, and what it has stays as it is), the most members, the
-- milliseconds for which it is kept when nobody speaks of it, the channel of events or nothing, its name in JSON,
-- the number of members, and for each its name, its streams or "-", and the milliseconds since it came.
-- Returns for each channel: "L" if what this gateway has said is lost, and nothing was changed; else "K", with
-- "o" if the first came, "v" if the last left, "k" if there are some and the gateway only looked, or nothing, the error
-- of PUBLISH or nothing, the time, and the places of the members for which there is no room.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local gateway, lease, may_end = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local replies, at = {}, 4
for place, key in ipairs(KEYS) do
  local begins, own, most = ARGV[at] == '1', ARGV[at + 1], tonumber(ARGV[at + 2])
  local kept, topic, shown, changes = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], tonumber(ARGV[at + 6])
  at = at + 7
  local leases, ended, has_ended, known = {}, {}, false, false
  for name, till in string.gmatch(redis.call('HGET', key, 'g') or '', '(%w+)=(%d+)') do
    if name == gateway then
      known = true
      if own == 'k' then leases[#leases + 1] = name .. '=' .. till end
    elseif may_end and tonumber(till) <= now then ended[name], has_ended = true, true
    else leases[#leases + 1] = name .. '=' .. till end
  end
  if not known and not begins then
    replies[place] = {'L', '', '', text(now)}
  else
    local before = math.max(redis.call('HLEN', key) - 1, 0)
    local count, fault, is_lost_leave, refused = before, '', false, {}
    local function tell(event, id, since)
      if topic == '' then return end
      local told = redis.pcall('PUBLISH', topic, '{"event":"presence","data":{"event":"' .. event ..
        '","channel":' .. shown .. ',"id":' .. cjson.encode(id) .. ',"since":' .. since ..
        ',"count":' .. text(count) .. '}}')
      if type(told) == 'table' and told.err then fault = told.err end
    end
    -- The others of a member's gateways, as they are written.
    local function others(value, is_left_out)
      local rest = {}
      for name, streams in string.gmatch(value, '(%w+):(%d+)') do
        if not is_left_out(name) then rest[#rest + 1] = name .. ':' .. streams end
      end
      return rest
    end
    if has_ended then
      local all = redis.call('HGETALL', key)
      for i = 1, #all, 2 do
        local field, value = all[i], all[i + 1]
        if string.sub(field, 1, 1) == 'm' then
          local since = string.match(value, '^%d+')
          local rest = others(value, function(name) return ended[name] end)
          if #rest > 0 then
            redis.call('HSET', key, field, since .. ' ' .. table.concat(rest, ' '))
          else
            redis.call('HDEL', key, field)
            count = count - 1
            tell('leave', string.sub(field, 2), since)
          end
        end
      end
    end
    for i = 0, changes - 1 do
      local id, streams, age = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
      at = at + 3
      local field = 'm' .. id
      local value = redis.call('HGET', key, field)
      local since = value and tonumber(string.match(value, '^%d+')) or now - age
      local rest = value and others(value, function(name) return name == gateway end) or {}
      if streams == '-' then
        if #rest > 0 then
          redis.call('HSET', key, field, text(since) .. ' ' .. table.concat(rest, ' '))
        elseif value then
          redis.call('HDEL', key, field)
          count = count - 1
          tell('leave', id, text(since))
        elseif not known then
          -- Redis has lost it: nobody else can say that it has left.
          is_lost_leave = true
          tell('leave', id, text(since))
        end
      elseif not value and count >= most then
        refused[#refused + 1] = i
      else
        since = math.min(since, now - age)
        rest[#rest + 1] = gateway .. ':' .. streams
        redis.call('HSET', key, field, text(since) .. ' ' .. table.concat(rest, ' '))
        if not value then
          count = count + 1
          tell('join', id, text(since))
        end
      end
    end
    if own == '1' then leases[#leases + 1] = gateway .. '=' .. text(now + lease) end
    if #leases == 0 and count == 0 then
      redis.call('DEL', key)
    else
      redis.call('HSET', key, 'g', table.concat(leases, ' '))
      redis.call('PEXPIRE', key, kept)
    end
    local change = ''
    if before == 0 and count > 0 then change = 'o' end
    if count == 0 and (before > 0 or is_lost_leave) then change = 'v' end
    if count > 0 and own == 'k' then change = 'k' end
    local reply = {'K', change, fault, text(now)}
    for _, i in ipairs(refused) do reply[#reply + 1] = text(i) end
    replies[place] = reply
  end
end
return replies
