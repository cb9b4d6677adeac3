-- SPDX-License-Identifier: Apache-2.0

-- For wrk: requests that name a certificate and a depth, each certificate in turn, and then the next depth. SENT is how
-- many were sent before: the turn goes on where it was.
--
--     wrk -s load.lua URL -- CERTIFICATES DEPTHS SENT

local requests = {}
local turn = 0

function init(args)
    turn = tonumber(args[3])
    for d = 1, tonumber(args[2]) do
        for n = 1, tonumber(args[1]) do
            requests[#requests + 1] = wrk.format("GET", "/?n=" .. 1000 + n .. "&d=" .. d)
        end
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
