-- Counts all keys of a request, or none of them (GCRA, as a level that falls by one nanosecond each nanosecond).
-- KEYS: what is counted. ARGV: for each key the amount and the most, in nanoseconds; an amount below zero gives back.
-- Answers the time in microseconds, the key that refuses longest or 0, for how long, and the level of each key.
-- A key holds the time of its level and the level. All numbers are whole and below 2^53, and so exact.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local levels, refused, wait = {}, 0, 0
local function keep(key, level)
  local value = string.format('%.0f %.0f', now, level)
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.ceil(level / 1000000) + 1))
end
for i, key in ipairs(KEYS) do
  local amount, most = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local kept, level = redis.call('GET', key), 0
  if kept then
    local at, was = string.match(kept, '^(%d+) (%d+)$')
    at, was = tonumber(at), tonumber(was)
    level = math.max(0, was - math.max(0, now - at) * 1000)
    if at > now then
      -- The clock went back. Nothing would fall until it is then again, and a key that is full refuses all that time.
      keep(key, level)
    end
  end
  levels[i] = level
  local over = level + amount - most
  if amount > 0 and over > wait then
    refused, wait = i, over
  end
end
if refused == 0 then
  for i, key in ipairs(KEYS) do
    levels[i] = math.max(0, levels[i] + tonumber(ARGV[2 * i - 1]))
    if levels[i] == 0 then
      redis.call('DEL', key)
    else
      keep(key, levels[i])
    end
  end
end
return { now, refused, wait, unpack(levels) }
