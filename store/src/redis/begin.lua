#!lua
-- Takes a number for a new generation and records it as begun.
-- KEYS: the view.
-- ARGV: fingerprint.
-- Answers the number. It is the time in microseconds, or one more than the greatest number known where that is not
-- greater: so it is new even to those who knew this server before it lost its data.
local time = redis.call('TIME')
local number = time[1] * 1000000 + time[2]
-- Any field may have been lost or restored without the others: `newest` is a number, `live` begins with one, and
-- the other fields are named by theirs.
local known = redis.call('HGETALL', KEYS[1])
for at = 1, #known, 2 do
  local newest = tonumber(known[at]) or tonumber(known[at + 1]:match('^%d+') or 0)
  if number <= newest then number = newest + 1 end
end
number = string.format('%.0f', number)
redis.call('HSET', KEYS[1], 'newest', number, number, 'begun ' .. ARGV[1])
return number
