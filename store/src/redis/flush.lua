#!lua
-- Applies flushes of buckets of one generation, each of them whole or not at all.
-- KEYS: for each flush the bucket, then one entity for each write.
-- ARGV: fingerprint; for each flush its log, from, to, how many writes it has and how many arguments those are. For each write:
-- what becomes of parts that it does not name (`removed`; `absent`: there are none; `kept`); the sealed first part, empty to
-- delete the state with all parts; since and span of its retention in milliseconds, empty if it is needed for good; 1 where its
-- expiry is to be set, 0 where that is needed only if the state is not there; how many other parts it names, and for each its
-- number and it as it is sealed, empty to remove it.
-- Answers for each flush 1: applied; 0: the bucket is gone; 2: a state of which parts are to be kept is not there; else the
-- position it is at, nil if it has none.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Most states of a call expire at one instant.
local expiry, spelled
-- A Lua function is given a few thousand values at most. Even, so that a field and its value stay together.
local ONCE = 1000

local function expire(entity, since, span)
  local at = math.max(now, tonumber(since)) + tonumber(span)
  if at ~= expiry then
    expiry, spelled = at, string.format('%.0f', at)
  end
  -- An entity's states expire together, so with the last of them: an expiry only moves later.
  if redis.call('PEXPIREAT', entity, spelled, 'GT') == 0 then
    redis.call('PEXPIREAT', entity, spelled, 'NX')
  end
  return at - now
end

-- `HSET` or `HDEL` with many values: how many fields are new, or gone.
local function change(command, entity, values)
  local fields = 0
  for from = 1, #values, ONCE do
    fields = fields + redis.call(command, entity, unpack(values, from, math.min(from + ONCE - 1, #values)))
  end
  return fields
end

-- The numbers of a state's other parts, as text, in the order in which they came.
local function listed(entity, log)
  local numbers = {}
  for number in (redis.call('HGET', entity, log .. '+') or ''):gmatch('%S+') do
    numbers[#numbers + 1] = number
  end
  return numbers
end

local function delete(entity, log)
  local fields = { log, log .. '+' }
  for _, number in ipairs(listed(entity, log)) do fields[#fields + 1] = log .. '.' .. number end
  change('HDEL', entity, fields)
end

-- Writes a state that has or had other parts; `count` of them are named from `arg` on.
local function write_parts(entity, log, rest, first, arg, count)
  local list, set, unset, named, numbers = log .. '+', { log, first }, {}, {}, {}
  for at = arg, arg + 2 * count - 1, 2 do
    local number, part = ARGV[at], ARGV[at + 1]
    named[number] = true
    if part == '' then
      unset[#unset + 1] = log .. '.' .. number
    else
      set[#set + 1], set[#set + 2] = log .. '.' .. number, part
      numbers[#numbers + 1] = number
    end
  end
  if rest == 'kept' then
    -- The first part is there: what is new is another part. Where none came or went, the list stays.
    if change('HSET', entity, set) + change('HDEL', entity, unset) == 0 then return end
    set, unset = {}, {}
  end
  local before = rest == 'absent' and {} or listed(entity, log)
  for _, number in ipairs(before) do
    if named[number] then
      -- It is as named.
    elseif rest == 'kept' then
      numbers[#numbers + 1] = number
    else
      unset[#unset + 1] = log .. '.' .. number
    end
  end
  if #numbers > 0 then
    set[#set + 1], set[#set + 2] = list, table.concat(numbers, ' ')
  elseif #before > 0 then
    unset[#unset + 1] = list
  end
  change('HSET', entity, set)
  change('HDEL', entity, unset)
end

-- Writes a state of which `count` other parts are named from `arg` on. Answers whether it may be new, which a whole state of several
-- parts always may.
local function write_state(entity, log, rest, first, arg, count)
  -- Most states have one part, before and after.
  if count == 0 and (rest ~= 'removed' or redis.call('HEXISTS', entity, log .. '+') == 0) then
    return redis.call('HSET', entity, log, first) == 1
  end
  write_parts(entity, log, rest, first, arg, count)
  return rest ~= 'kept'
end

local function flush(key, arg, writes)
  local name, log, from, to = KEYS[key], ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
  local bucket = redis.call('HMGET', name, 'fingerprint', 'idle', log)
  if bucket[1] ~= ARGV[1] then return 0 end
  if bucket[3] ~= from then return bucket[3] end
  local at = arg + 5
  for write = 1, writes do
    if ARGV[at] == 'kept' and redis.call('HEXISTS', KEYS[key + write], log) == 0 then return 2 end
    at = at + 6 + 2 * ARGV[at + 5]
  end
  -- Redis does not undo what a script wrote before it failed. So the position is unreadable until the states are
  -- written: whatever stops this script, a bucket of which only a part was written has no position.
  redis.call('HSET', name, log, '')
  local longest = 0
  at = arg + 5
  for write = 1, writes do
    local entity, rest, first, since, span = KEYS[key + write], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local count = tonumber(ARGV[at + 5])
    if first == '' then
      delete(entity, log)
    else
      local is_new = write_state(entity, log, rest, first, at + 6, count)
      if span ~= '' and (is_new or ARGV[at + 4] == '1') then
        longest = math.max(longest, expire(entity, since, span))
      end
    end
    at = at + 6 + 2 * count
  end
  -- Older versions set the expiry of what they write to `idle` from now: so that this is never earlier than an expiry
  -- that was set here, `idle` is the longest of them.
  if bucket[2] ~= '' and longest > tonumber(bucket[2]) then
    redis.call('HSET', name, 'idle', string.format('%.0f', longest))
  end
  redis.call('HSET', name, log, to)
  return 1
end

local answers, key, arg = {}, 1, 2
while key <= #KEYS do
  local writes = tonumber(ARGV[arg + 3])
  answers[#answers + 1] = flush(key, arg, writes)
  key, arg = key + 1 + writes, arg + 5 + ARGV[arg + 4]
end
return answers
