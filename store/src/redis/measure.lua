#!lua flags=no-writes
-- Tells how much an entity holds, without sending it.
-- KEYS: the entity.
-- Answers how many states it has, of how many parts, and how many bytes these have with their checksums.
local fields = redis.call('HGETALL', KEYS[1])
local states, parts, bytes = 0, 0, 0
for at = 1, #fields, 2 do
  local field = fields[at]
  -- The list of a state's parts is none of it.
  if field:sub(-1) ~= '+' then
    parts, bytes = parts + 1, bytes + #fields[at + 1]
    if not field:find('.', 1, true) then states = states + 1 end
  end
end
return { states, parts, bytes }
