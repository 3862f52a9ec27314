-- One call of a branch: the fence and the business, or neither.
-- KEYS: the record, the floor, the index by birth; then the business' own.
-- ARGV: what stands, as the caller believes; what shall stand; run, set or peek;
-- the GID's birth; the record's life in milliseconds, 0 for ever; what stands after a
-- refusal ('' for nothing new) and after an error; then the business' own.
local function business(KEYS, ARGV)
--[[BUSINESS]]
end
local standing = redis.call('GET', KEYS[1]) or ''
if standing ~= ARGV[1] then return {'standing', standing} end
local born = tonumber(ARGV[4])
if standing == '' and born > 0 and born <= tonumber(redis.call('GET', KEYS[2]) or '0') then
  return {'swept', ''}
end
if ARGV[3] == 'peek' then return {'done', ''} end
local function stand(record)
  if record == standing or record == '' then return end
  if tonumber(ARGV[5]) > 0 then
    redis.call('SET', KEYS[1], record, 'PX', ARGV[5])
  else
    redis.call('SET', KEYS[1], record)
    redis.call('ZADD', KEYS[3], born, KEYS[1])
  end
end
if ARGV[3] == 'run' then
  local ok, said = pcall(business, {unpack(KEYS, 4)}, {unpack(ARGV, 8)})
  if type(said) == 'table' then said = said.err or said.refused and {said.refused} end
  if not ok then
    stand(ARGV[7])
    return {'failed', tostring(said)}
  elseif type(said) == 'table' then
    if ARGV[6] ~= '' then stand(ARGV[6] .. said[1]) else stand(ARGV[7]) end
    return {'refused', said[1]}
  elseif type(said) == 'string' then
    stand(ARGV[7])
    return {'failed', said}
  end
end
stand(ARGV[2])
return {'done', ''}
