#!lua
-- Applies flushes of buckets of one generation, each of them whole or not at all.
-- KEYS: for each flush the bucket, then one entity for each write.
-- ARGV: fingerprint; for each flush its log, from, to and how many writes it has; for each of its writes the sealed state, empty
-- to delete it, and since and span of its retention in milliseconds, empty if it is needed for good.
-- Answers for each flush 1: applied; 0: the bucket is gone; else the position it is at, nil if it has none.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Most states of a call expire at one instant.
local expiry, spelled

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

local function flush(key, arg, writes)
  local name, log, from, to = KEYS[key], ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
  local bucket = redis.call('HMGET', name, 'fingerprint', 'idle', log)
  if bucket[1] ~= ARGV[1] then return 0 end
  if bucket[3] ~= from then return bucket[3] end
  -- Redis does not undo what a script wrote before it failed. So the position is unreadable until the states are
  -- written: whatever stops this script, a bucket of which only a part was written has no position.
  redis.call('HSET', name, log, '')
  local longest = 0
  for write = 1, writes do
    local entity, at = KEYS[key + write], arg + 1 + 3 * write
    local state, since, span = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    if state == '' then
      redis.call('HDEL', entity, log)
    else
      redis.call('HSET', entity, log, state)
      if span ~= '' then longest = math.max(longest, expire(entity, since, span)) end
    end
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
  key, arg = key + 1 + writes, arg + 4 + 3 * writes
end
return answers
