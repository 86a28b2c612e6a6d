#!lua
-- Creates a bucket, unless it is there: what a broken connection delivers late must not set it back.
-- KEYS: the bucket.
-- ARGV: its fields and values, the fingerprint last, without which it is not there.
-- Answers 1: it is there.
if redis.call('HEXISTS', KEYS[1], 'fingerprint') == 0 then
  for field = 1, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[field], ARGV[field + 1])
  end
end
return 1
