#!lua
-- Takes a number for a new generation and records it as begun.
-- KEYS: the view.
-- ARGV: fingerprint.
-- Answers the number. It is the time in microseconds, or one more than the greatest number given where that is not
-- greater: so it is new even to those who knew this server before it lost its data.
local now = redis.call('TIME')
local number = now[1] * 1000000 + now[2]
local newest = tonumber(redis.call('HGET', KEYS[1], 'newest') or 0)
if number <= newest then number = newest + 1 end
number = string.format('%.0f', number)
redis.call('HSET', KEYS[1], 'newest', number, number, 'begun ' .. ARGV[1])
return number
