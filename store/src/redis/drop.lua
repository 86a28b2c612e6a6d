#!lua flags=allow-oom
-- Records that a generation is being dropped, so that nobody publishes it any more.
-- KEYS: the view.
-- ARGV: number, fingerprint.
-- Answers 1: it is; 0: it is not there; 2: it is live.
local stage = redis.call('HGET', KEYS[1], ARGV[1])
if not stage or stage:match(' (%x+)$') ~= ARGV[2] then return 0 end
if redis.call('HGET', KEYS[1], 'live') == ARGV[1] .. ' ' .. ARGV[2] then return 2 end
redis.call('HSET', KEYS[1], ARGV[1], 'dropped ' .. ARGV[2])
return 1
