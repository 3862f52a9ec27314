local n = tonumber(redis.call('GET', KEYS[1]) or '0')
if not n then return {err = 'the value of ' .. KEYS[1] .. ' is no number'} end
if n + tonumber(ARGV[1]) < tonumber(ARGV[2]) then
  return {refused = KEYS[1] .. ' is ' .. string.format('%.0f', n) .. ', and ' .. ARGV[1] .. ' would take it below ' .. ARGV[2]}
end
redis.call('INCRBY', KEYS[1], ARGV[1])
