#!lua
-- Makes a generation the live one, or none, if the one expected is live.
-- KEYS: the view.
-- ARGV: expected, new: each `number fingerprint`, or empty for none.
-- Answers 1: done; 0: the new one is not complete, or is gone; else the one that is live, empty for none.
local expected, new = ARGV[1], ARGV[2]
if new ~= '' then
  local number, fingerprint = new:match('^(%d+) (%x+)$')
  if redis.call('HGET', KEYS[1], number) ~= 'complete ' .. fingerprint then return 0 end
end
local live = redis.call('HGET', KEYS[1], 'live') or ''
if live ~= expected then return live end
if new ~= '' then
  redis.call('HSET', KEYS[1], 'live', new)
else
  redis.call('HDEL', KEYS[1], 'live')
end
return 1
