-- Sends whole requests from a file, one after the other: BENCH_REQUESTS names it, BENCH_REQUEST_BYTES is the length of
-- each. At its end it begins again where BENCH_AGAIN is set, for who forgets what it was sent; else it asks for a page
-- that nobody has, and the round is not valid.
local file = io.open(os.getenv("BENCH_REQUESTS"), "rb")
local length = tonumber(os.getenv("BENCH_REQUEST_BYTES"))
local again = os.getenv("BENCH_AGAIN")

function request()
  local one = file:read(length)
  if one == nil and again then
    file:seek("set")
    one = file:read(length)
  end
  return one or "POST /exhausted HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
end

function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %.3f %.3f\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.timeout + summary.errors.connect + summary.errors.read,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
