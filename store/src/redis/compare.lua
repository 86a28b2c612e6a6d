#!lua flags=no-writes
-- Compares buckets with where they should be, so that nothing is sent of those that are there.
-- KEYS: the buckets.
-- ARGV: how many logs; the logs; the position in each log; the fingerprint of each bucket.
-- Answers which buckets are gone or at another position, as their numbers among KEYS, from 1.
local logs = tonumber(ARGV[1])
local fields = { 'fingerprint' }
for log = 1, logs do fields[1 + log] = ARGV[1 + log] end
local elsewhere = {}
for key = 1, #KEYS do
  local found = redis.call('HMGET', KEYS[key], unpack(fields))
  local there = found[1] == ARGV[1 + 2 * logs + key]
  for log = 1, logs do there = there and found[1 + log] == ARGV[1 + logs + log] end
  if not there then elsewhere[#elsewhere + 1] = key end
end
return elsewhere
