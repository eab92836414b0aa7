"""The Lua scripts of the Redis store: each is one atomic step within one hash slot.

Redis runs a script to its end before anything else, and writes it to the append-only file as a whole. A script
that finds no memory left is refused at its first write, so nothing of it is written. Numbers that are compared
for equality are compared as text; offsets stay exact below 2**53 where they are ordered.
"""

# KEYS leases. ARGV name, the record that was read ("" for none), the record to write.
SWAP_LEASE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

# KEYS leases, pending, partitions. ARGV lease name, its record, pending start, partitions...
# Returns 1: written, 0: a start is pending already, -1: the lease's record isn't the one that was read.
PLAN_START = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return -1 end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('SET', KEYS[2], ARGV[3])
for i = 4, #ARGV do redis.call('SADD', KEYS[3], ARGV[i]) end
return 1
"""

# KEYS pending. ARGV the pending start that was carried out.
FINISH_START = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

# KEYS state. ARGV epoch, owner, then (position field, mark field, position)...
# Raises the partition's epoch and sets positions that aren't there. Returns the epoch that stands in the
# way, else 0, followed by the position of each field.
OPEN_PARTITION = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
local wanted = tonumber(ARGV[1])
if epoch > wanted or (epoch == wanted and redis.call('HGET', KEYS[1], 'holder') ~= ARGV[2]) then
  return {epoch}
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'holder', ARGV[2])
local reply = {0}
for i = 3, #ARGV, 3 do
  if redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 2]) == 1 then
    redis.call('HSET', KEYS[1], ARGV[i + 1], ARGV[i + 2])
  end
  reply[#reply + 1] = redis.call('HGET', KEYS[1], ARGV[i])
end
return reply
"""

# KEYS state, users, outbox, index, collected. ARGV epoch, position field, expected, position, number of users,
# number of chunks, then (user, history)..., (first offset, index member, chunk)..., (start, end)... of what was
# collected: the first may go on where the last stored one ends.
# Returns nothing, or (position, epoch) as they stand: refused, nothing was written.
COMMIT = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
local position = redis.call('HGET', KEYS[1], ARGV[2])
if epoch ~= ARGV[1] or position ~= ARGV[3] then return {position, epoch} end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
local i, last = 7, 6 + 2 * tonumber(ARGV[5])
while i <= last do
  local j = math.min(i + 1999, last)
  redis.call('HSET', KEYS[2], unpack(ARGV, i, j))
  i = j + 1
end
local chunks = last + 3 * tonumber(ARGV[6])
for k = last + 1, chunks, 3 do
  redis.call('HSET', KEYS[3], ARGV[k], ARGV[k + 2])
  redis.call('ZADD', KEYS[4], ARGV[k], ARGV[k + 1])
end
for k = chunks + 1, #ARGV, 2 do
  local start, before = ARGV[k], redis.call('ZREVRANGE', KEYS[5], 0, 0)[1]
  if before then
    local first, ended = string.match(before, '(%d+):(%d+)')
    if ended == start then
      redis.call('ZREM', KEYS[5], before)
      start = first
    end
  end
  redis.call('ZADD', KEYS[5], start, start .. ':' .. ARGV[k + 1])
end
return {}
"""

# KEYS state. ARGV epoch, then (mark field, mark)... Returns the epoch that stands in the way, else nothing.
RAISE_MARKS = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch ~= ARGV[1] then return {epoch} end
for i = 2, #ARGV, 2 do
  local mark = redis.call('HGET', KEYS[1], ARGV[i])
  if mark and tonumber(ARGV[i + 1]) > tonumber(mark) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return {}
"""

# KEYS state, outbox, index. ARGV epoch, then (first offset, index member)... Returns as RAISE_MARKS.
DROP_CHUNKS = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch ~= ARGV[1] then return {epoch} end
for i = 2, #ARGV, 2 do
  redis.call('HDEL', KEYS[2], ARGV[i])
  redis.call('ZREM', KEYS[3], ARGV[i + 1])
end
return {}
"""

# KEYS merchants. ARGV the expected marker ("" for none), the new one, profile_through ("" leaves it), then
# (field, profile)... Returns 1: applied, 0: the marker is another; nothing was written.
APPLY = """
if (redis.call('HGET', KEYS[1], 'a') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'a', ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 't', ARGV[3]) end
for i = 4, #ARGV, 2000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 1999, #ARGV)))
end
return 1
"""

# KEYS pointer, bundles. ARGV the pointer's record that was read ("" for none), the record to write, bundle's
# sha256, bundle, sha256 of the bundles that stay... Returns 1: flipped, 0: another flip came first.
FLIP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('SET', KEYS[1], ARGV[2])
local kept = {}
for i = 5, #ARGV do kept[ARGV[i]] = true end
for _, sha in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not kept[sha] then redis.call('HDEL', KEYS[2], sha) end
end
return 1
"""
