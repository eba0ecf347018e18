-- Sends callbacks that are all different: each line of the file is the path of one task's callback URL.
-- BENCH_PATHS names the file, BENCH_THREADS says among how many threads its lines are dealt out.
local threads = tonumber(os.getenv("BENCH_THREADS"))
local counter = 0

function setup(thread)
  thread:set("number", counter)
  counter = counter + 1
end

local next_line
local headers = { ["Content-Type"] = "application/json" }
local body = '{"task_id":"%s","model":"grok-imagine-1.0-video","action":"generate","status":"completed",' ..
  '"created_at":1775285160040,"completed_at":1775285195,"progress":100,"cost":22313,"result":{"videos":[{"url":' ..
  '["https://cdn.example.com/media/%s/0.mp4"],"expires_at":1775371595}]}}'

function init(args)
  local file = io.open(os.getenv("BENCH_PATHS"))
  for _ = 1, number do file:read() end
  next_line = function()
    local line = file:read()
    for _ = 2, threads do file:read() end
    return line
  end
end

function request()
  local line = next_line()
  if line == nil then return wrk.format("POST", "/exhausted", headers, "") end
  local path, provider_id = line:match("^(%S+) (%S+)$")
  return wrk.format("POST", path, headers, body:format(provider_id, provider_id))
end

function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %.3f %.3f\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.timeout + summary.errors.connect + summary.errors.read,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
