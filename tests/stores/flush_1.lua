#!lua
-- Applies one flush of one bucket, whole or not at all.
-- KEYS: the bucket; one entity for each write.
-- ARGV: fingerprint, log, from, to; for each write the sealed state, empty to delete it.
-- Answers 1: applied; 0: the bucket is gone; else the position it is at, nil if it has none.
local bucket = redis.call('HMGET', KEYS[1], 'fingerprint', 'idle', ARGV[2])
if bucket[1] ~= ARGV[1] then return 0 end
if bucket[3] ~= ARGV[3] then return bucket[3] end
-- Redis does not undo what a script wrote before it failed. So the position is unreadable until the states are
-- written: whatever stops this script, a bucket of which only a part was written has no position.
redis.call('HSET', KEYS[1], ARGV[2], '')
for write = 2, #KEYS do
  local state = ARGV[write + 3]
  if state == '' then
    redis.call('HDEL', KEYS[write], ARGV[2])
  else
    redis.call('HSET', KEYS[write], ARGV[2], state)
    if bucket[2] ~= '' then redis.call('PEXPIRE', KEYS[write], bucket[2]) end
  end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
return 1
