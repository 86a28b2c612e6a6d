#!lua
-- Applies one flush of one bucket, whole or not at all.
-- KEYS: the bucket; one entity for each write.
-- ARGV: fingerprint, log, from, to; for each write the sealed state, empty to delete it, and since and span of its
-- retention in milliseconds, empty if it is needed for good.
-- Answers 1: applied; 0: the bucket is gone; else the position it is at, nil if it has none.
local bucket = redis.call('HMGET', KEYS[1], 'fingerprint', 'idle', ARGV[2])
if bucket[1] ~= ARGV[1] then return 0 end
if bucket[3] ~= ARGV[3] then return bucket[3] end
-- Redis does not undo what a script wrote before it failed. So the position is unreadable until the states are
-- written: whatever stops this script, a bucket of which only a part was written has no position.
redis.call('HSET', KEYS[1], ARGV[2], '')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local longest = 0
for write = 2, #KEYS do
  local at = 3 * write - 1
  local state, since, span = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if state == '' then
    redis.call('HDEL', KEYS[write], ARGV[2])
  else
    redis.call('HSET', KEYS[write], ARGV[2], state)
    if span ~= '' then
      -- An entity's states expire together, so with the last of them: an expiry only moves later.
      local expiry = math.max(now, tonumber(since)) + tonumber(span)
      longest = math.max(longest, expiry - now)
      expiry = string.format('%.0f', expiry)
      if redis.call('PEXPIREAT', KEYS[write], expiry, 'GT') == 0 then
        redis.call('PEXPIREAT', KEYS[write], expiry, 'NX')
      end
    end
  end
end
-- Older versions set the expiry of what they write to `idle` from now: so that this is never earlier than an expiry
-- that was set here, `idle` is the longest of them.
if bucket[2] ~= '' and longest > tonumber(bucket[2]) then
  redis.call('HSET', KEYS[1], 'idle', string.format('%.0f', longest))
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
return 1
