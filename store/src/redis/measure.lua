#!lua flags=no-writes
-- Tells how much an entity holds, without sending it.
-- KEYS: the entity.
-- Answers how many states it has, and how many bytes they have with their checksums.
local states = redis.call('HVALS', KEYS[1])
local bytes = 0
for state = 1, #states do bytes = bytes + #states[state] end
return { #states, bytes }
