#!lua flags=no-writes
-- Reads a bucket's position and states for one log as of one instant.
-- KEYS: the bucket; the entities.
-- ARGV: fingerprint, log.
-- Answers 0: the bucket is gone; else the position, then the sealed states, nil where there is none.
local bucket = redis.call('HMGET', KEYS[1], 'fingerprint', ARGV[2])
if bucket[1] ~= ARGV[1] then return 0 end
local found = { bucket[2] }
for entity = 2, #KEYS do
  found[entity] = redis.call('HGET', KEYS[entity], ARGV[2])
end
return found
