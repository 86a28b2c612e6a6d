#!lua
-- Records a generation as complete.
-- KEYS: the view.
-- ARGV: number, fingerprint.
-- Answers 1: it is; 0: it was dropped in between.
local stage = redis.call('HGET', KEYS[1], ARGV[1])
if stage == 'begun ' .. ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], 'complete ' .. ARGV[2])
elseif stage ~= 'complete ' .. ARGV[2] then
  return 0
end
return 1
