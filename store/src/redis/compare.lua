#!lua flags=no-writes
-- Compares buckets with where they should be, so that nothing is sent of those that are there.
-- KEYS: the buckets.
-- ARGV: how many logs; the logs; the position in each log; the fingerprint of each bucket.
-- Answers which buckets are gone or at another position, as their numbers among KEYS, from 1.
local logs = tonumber(ARGV[1])
local fields, expected = { 'fingerprint' }, {}
for log = 1, logs do
  fields[1 + log] = ARGV[1 + log]
  expected[ARGV[1 + log]] = ARGV[1 + logs + log]
end

-- How many of the fields are as they should be. Where a bucket has few others, all of it is read: Redis finds a single field
-- of a hash with up to some hundred by going through them.
local function right(key, fingerprint)
  expected['fingerprint'] = fingerprint
  local count = 0
  if redis.call('HLEN', key) <= 4 * (1 + logs) then
    local found = redis.call('HGETALL', key)
    for at = 1, #found, 2 do
      if expected[found[at]] == found[at + 1] then count = count + 1 end
    end
  else
    local found = redis.call('HMGET', key, unpack(fields))
    for at = 1, #fields do
      if expected[fields[at]] == found[at] then count = count + 1 end
    end
  end
  return count
end

local elsewhere = {}
for key = 1, #KEYS do
  local fingerprint = ARGV[1 + 2 * logs + key]
  if right(KEYS[key], fingerprint) ~= 1 + logs then elsewhere[#elsewhere + 1] = key end
end
return elsewhere
