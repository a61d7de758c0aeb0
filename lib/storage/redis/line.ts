import { LOST_LIFETIME } from '../place-times.js'

/**
 * In Lua: the turns in line for a place, the first of which holds it, and those that have lost it to another one. A record is
 * `holder:expires:state;` for each in line, in the order of their arrival, then for those that have lost it, with the time of the
 * server in milliseconds; the state is 0, 1 where a later turn may replace it, or 2 where it has lost its place.
 */
export const LINE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function line_at(key, own)
  local line, lost, expired, is_first = {}, {}, nil, true
  for holder, expires, state in string.gmatch(redis.call('GET', key) or '', '([^:;]+):(%d+):(%d)') do
    expires = tonumber(expires)
    if state == '2' then
      if expires > now then lost[holder] = expires end
    else
      -- While the first one is in the record, nobody has taken its place, also where its time has passed.
      if expires > now or (is_first and holder == own) then
        line[#line + 1] = { holder = holder, expires = expires, replaceable = state }
      elseif is_first then
        expired = { holder = holder, expires = expires, replaceable = state }
      end
      is_first = false
    end
  end
  return line, lost, expired
end
local function position(line, holder)
  for i, turn in ipairs(line) do if turn.holder == holder then return i end end
end
-- Where nobody is in line the place was forgotten, with the record, but not lost.
local function has_place(line, lost, expired, holder)
  return not lost[holder] and not expired and (#line == 0 or position(line, holder) == 1)
end
local function keep(key, line, lost, expired)
  local turns, last = {}, now
  local function add(holder, expires, state)
    turns[#turns + 1] = holder .. ':' .. string.format('%.0f', expires) .. ':' .. state
    last = math.max(last, expires)
  end
  if expired then add(expired.holder, expired.expires, expired.replaceable) end
  for _, turn in ipairs(line) do add(turn.holder, turn.expires, turn.replaceable) end
  for holder, expires in pairs(lost) do add(holder, expires, '2') end
  if #turns == 0 then return redis.call('DEL', key) end
  redis.call('SET', key, table.concat(turns, ';'), 'PX', string.format('%.0f', last - now + ${LOST_LIFETIME}))
end
local function leave(key, line, lost, expired, holder)
  local others = {}
  for _, turn in ipairs(line) do if turn.holder ~= holder then others[#others + 1] = turn end end
  lost[holder] = nil
  keep(key, others, lost, expired)
end`
