#!lua
-- Gives a bucket a position for a log that it has none for.
-- KEYS: the bucket.
-- ARGV: fingerprint, log, position.
-- Answers 1: it has one now; 0: the bucket is gone.
if redis.call('HGET', KEYS[1], 'fingerprint') ~= ARGV[1] then return 0 end
redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
return 1
