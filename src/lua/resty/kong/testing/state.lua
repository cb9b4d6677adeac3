-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.testing.state: the request of a test, its connection, and what was set for them.
--
--     phase      the current phase
--     options    those of testing.request
--     headers    of the request, by names in lower case
--     var        values of variables
--     settings   what was set: see testing.settings
--     log        what was logged
--     exit       what ngx.exit has thrown
--     passed     the chain of the last pointer that became an object

local pairs = pairs

local state = {}


-- Begins a connection with a request.
function state.begin(phase, options)
    state.phase, state.options = phase, options
    state.headers, state.var, state.settings, state.log = {}, {}, {}, {}
    state.exit, state.passed = nil, nil
    -- As mtls_auth and header_cert_auth tell the service.
    state.headers["x-consumer-username"] = options.consumer
    for name, value in pairs(options.headers or {}) do
        state.headers[name:lower()] = value
    end
    for name, value in pairs(options.var or {}) do
        state.var[name] = value
    end
end


-- The phases, as errors name them, and as ngx.get_phase() does.
state.PHASES = {
    init = "init", init_worker = "init_worker", exit_worker = "exit_worker", timer = "timer",
    ssl_session_fetch = "ssl_session_fetch", ssl_session_store = "ssl_session_store",
    client_hello = "ssl_client_hello", certificate = "ssl_cert", set = "set",
    server_rewrite = "server_rewrite", rewrite = "rewrite", access = "access", content = "content",
    balancer = "balancer", header_filter = "header_filter", body_filter = "body_filter", log = "log",
}


return state
