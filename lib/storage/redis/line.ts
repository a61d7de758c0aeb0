/**
 * In Lua: the turns in line for a place, the first of which holds it. A record is `holder:expires:isReplaceable;` for each, in the
 * order of their arrival, with the time of the server in milliseconds. Who has expired is not in line any more.
 */
export const LINE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function line_at(key)
  local line = {}
  for holder, expires, replaceable in string.gmatch(redis.call('GET', key) or '', '([^:;]+):(%d+):(%d)') do
    if tonumber(expires) > now then
      line[#line + 1] = { holder = holder, expires = tonumber(expires), replaceable = replaceable }
    end
  end
  return line
end
local function position(line, holder)
  for i, turn in ipairs(line) do if turn.holder == holder then return i end end
end
local function keep(key, line)
  if #line == 0 then return redis.call('DEL', key) end
  local turns, last = {}, now
  for i, turn in ipairs(line) do
    turns[i] = turn.holder .. ':' .. string.format('%.0f', turn.expires) .. ':' .. turn.replaceable
    last = math.max(last, turn.expires)
  end
  redis.call('SET', key, table.concat(turns, ';'), 'PX', string.format('%.0f', last - now))
end
local function without(line, holder)
  local others = {}
  for _, turn in ipairs(line) do if turn.holder ~= holder then others[#others + 1] = turn end end
  return others
end`
