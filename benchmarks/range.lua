-- 64 KiB at a random offset of a 256 MiB asset, in every request.
local size, part = 268435456, 65536
math.randomseed(20260101)
function request()
  local first = math.random(0, size - part)
  return wrk.format("GET", nil, {["Range"] = "bytes=" .. first .. "-" .. first + part - 1})
end
