-- Counts all keys of a request, or none of them (GCRA, as a level that falls by one nanosecond each nanosecond), or ends what it
-- counted.
-- ARGV: how far ahead an end may lie, in microseconds; then for each key a word and three numbers, whose amounts are nanoseconds:
--   take AMOUNT MOST 0     counts the amount, if there is no more than the most then
--   hold AMOUNT MOST TIME  the same, put aside: it does not fall before it is ended, or has not been for so many microseconds
--   back AMOUNT 0 0        gives back what was taken
--   end  AMOUNT USED END   ends what was put aside: what was used of it falls from now on
-- KEYS: what is counted; then for each hold and end, in their order, what is put aside there.
-- Answers the time in microseconds, the key that refuses longest or 0, for how long, the level of each key with what is put aside
-- there, and for each hold its end.
-- A key holds the time of its level and the level, and the other one of it ends and amounts, of which the first ends first. All
-- numbers are whole and below 2^53, and so exact.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local furthest = now + tonumber(ARGV[1])

local function set(key, value, ms)
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.ceil(ms) + 1))
end

local function keep(one)
  if one.level == 0 then
    redis.call('DEL', one.key)
  else
    set(one.key, string.format('%.0f %.0f', now, one.level), one.level / 1000000)
  end
  if not one.aside_key then
    return
  end
  local texts, last = {}, now
  for _, part in ipairs(one.aside) do
    if part.amount > 0 then
      table.insert(texts, string.format('%.0f:%.0f', part.till, part.amount))
      last = part.till
    end
  end
  if #texts == 0 then
    redis.call('DEL', one.aside_key)
  else
    set(one.aside_key, table.concat(texts, ' '), (last - now) / 1000 + (one.level + one.held) / 1000000)
  end
end

local function read(key, aside_key)
  local one = { key = key, aside_key = aside_key, level = 0, aside = {}, held = 0 }
  local kept, at = redis.call('GET', key), 0
  if kept then
    local time_of, level = string.match(kept, '^(%d+) (%d+)$')
    at, one.level = tonumber(time_of), tonumber(level)
  end
  local function fall(till)
    one.level = math.max(0, one.level - math.max(0, till - at) * 1000)
    at = math.max(at, till)
  end
  -- Where the clock went back nothing would fall until it is then again, and a key that is full refuses all that time.
  local is_new = at > now
  for till, amount in string.gmatch(aside_key and redis.call('GET', aside_key) or '', '(%d+):(%d+)') do
    till, amount = tonumber(till), tonumber(amount)
    if till <= now or till > furthest then
      -- Nobody has ended it, since its server died or did not reach this one: all of it counts. Or it is by a clock that went back.
      fall(math.min(till, now))
      one.level, is_new = one.level + amount, true
    else
      table.insert(one.aside, { till = till, amount = amount })
      one.held = one.held + amount
    end
  end
  fall(now)
  if is_new then
    keep(one)
  end
  return one
end

-- Few ends are kept, however many calls there are: each lies between once and twice the time ahead.
local function hold(one, amount, time)
  local part
  for _, other in ipairs(one.aside) do
    if other.till >= now + time and other.till <= now + 2 * time then
      part = other
    end
  end
  if not part then
    part = { till = now + 2 * time, amount = 0 }
    table.insert(one.aside, part)
    table.sort(one.aside, function(a, b) return a.till < b.till end)
  end
  part.amount, one.held = part.amount + amount, one.held + amount
  return part.till
end

-- What is over already counts in full. What is not there was lost, and what was used of it is counted all the same.
local function finish(one, amount, used, till)
  if till <= now then
    return
  end
  for _, part in ipairs(one.aside) do
    if part.till == till then
      local ended = math.min(part.amount, amount)
      part.amount, one.held = part.amount - ended, one.held - ended
    end
  end
  one.level = one.level + used
end

local count, asides = (#ARGV - 1) / 4, 0
local all, refused, wait = {}, 0, 0
for i = 1, count do
  local word, amount, most, last = unpack(ARGV, 4 * i - 2, 4 * i + 1)
  local aside_key
  if word == 'hold' or word == 'end' then
    asides = asides + 1
    aside_key = KEYS[count + asides]
  end
  local one = read(KEYS[i], aside_key)
  one.word, one.amount, one.most, one.last = word, tonumber(amount), tonumber(most), tonumber(last)
  all[i] = one
  local over = one.level + one.held + one.amount - one.most
  if (word == 'take' or word == 'hold') and over > wait then
    refused, wait = i, over
  end
end
local ends = {}
for _, one in ipairs(refused == 0 and all or {}) do
  if one.word == 'take' then
    one.level = one.level + one.amount
  elseif one.word == 'hold' then
    table.insert(ends, hold(one, one.amount, one.last))
  elseif one.word == 'back' then
    one.level = math.max(0, one.level - one.amount)
  else
    finish(one, one.amount, one.most, one.last)
  end
  keep(one)
end
local answer = { now, refused, wait }
for _, one in ipairs(all) do
  table.insert(answer, one.level + one.held)
end
for _, till in ipairs(ends) do
  table.insert(answer, till)
end
return answer
