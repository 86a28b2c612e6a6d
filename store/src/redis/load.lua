#!lua flags=no-writes
-- Reads a bucket's position and states for one log as of one instant.
-- KEYS: the bucket; the entities.
-- ARGV: fingerprint, log.
-- Answers 0: the bucket is gone; else the position, then the states, nil where there is none: of one part, that part as it is
-- sealed; of several, a list of the first and, for each other one in any order, its number and it, nil where it is lost.
local bucket = redis.call('HMGET', KEYS[1], 'fingerprint', ARGV[2])
if bucket[1] ~= ARGV[1] then return 0 end
-- A Lua function is given a few thousand values at most.
local ONCE = 1000

local function parts(entity, first, listed)
  local numbers, fields, answer = {}, {}, { first }
  for number in listed:gmatch('%S+') do
    numbers[#numbers + 1] = number
    fields[#fields + 1] = ARGV[2] .. '.' .. number
  end
  for from = 1, #fields, ONCE do
    local found = redis.call('HMGET', entity, unpack(fields, from, math.min(from + ONCE - 1, #fields)))
    for at = 1, #found do
      answer[#answer + 1] = numbers[from + at - 1]
      answer[#answer + 1] = found[at]
    end
  end
  return answer
end

local found = { bucket[2] }
for entity = 2, #KEYS do
  local state = redis.call('HMGET', KEYS[entity], ARGV[2], ARGV[2] .. '+')
  found[entity] = state[2] and parts(KEYS[entity], state[1], state[2]) or state[1]
end
return found
