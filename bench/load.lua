-- SPDX-License-Identifier: Apache-2.0

-- For wrk: requests that name a certificate, each certificate in turn.
--
--     wrk -s load.lua URL -- COUNT

local requests = {}
local turn = 0

function init(args)
    for n = 1, tonumber(args[1]) do
        requests[n] = wrk.format("GET", "/?n=" .. 1000 + n)
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

-- One line for measure.pl: requests, microseconds, failures of any kind.
function done(summary)
    local errors = summary.errors
    print("measured", summary.requests, summary.duration,
          errors.connect + errors.read + errors.write + errors.status + errors.timeout)
end
