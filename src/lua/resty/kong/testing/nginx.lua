-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.testing.nginx: a stand-in for the part of ngx that plugins need.

local error, pairs, pcall, rawget, select = error, pairs, pcall, rawget, select
local setmetatable, table, tostring, type = setmetatable, table, tostring, type
local state = require "resty.kong.testing.state"
local values = require "resty.kong.testing.values"

local M = {}

local CONSTANTS = {
    OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
    STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8,
    HTTP_OK = 200, HTTP_BAD_REQUEST = 400, HTTP_UNAUTHORIZED = 401, HTTP_FORBIDDEN = 403,
    HTTP_NOT_FOUND = 404, HTTP_INTERNAL_SERVER_ERROR = 500, HTTP_BAD_GATEWAY = 502,
    HTTP_SERVICE_UNAVAILABLE = 503,
}

-- What ngx.exit throws: nginx does not return from it either.
local Exit = {
    __tostring = function(self)
        return "ngx.exit(" .. self.status .. "): call the function by testing.run"
    end,
}


local function joined(...)
    local texts = { ... }
    for index = 1, select("#", ...) do
        texts[index] = tostring(texts[index])
    end
    return table.concat(texts)
end


-- Headers by any form of their names.
local Headers = {
    __index = function(headers, name)
        return type(name) == "string" and rawget(headers, (name:lower():gsub("_", "-"))) or nil
    end,
}


-- Returns the values of variables that follow from the request and its settings.
local function variable(name)
    local options, settings = state.options, state.settings
    local verified = options.client_verify or options.client_certificate and "SUCCESS" or "NONE"
    if name == "host" then
        local host = state.headers.host or options.server_name or "localhost"
        return (host:lower():gsub(":%d*$", ""):gsub("%.$", ""))
    elseif name == "uri" then
        return options.uri or "/"
    elseif name == "request_method" then
        return options.method or "GET"
    elseif name == "ssl_server_name" then
        return options.server_name
    elseif name == "ssl_client_verify" then
        return verified
    elseif name == "kong_client_verify" then
        return settings.client_verify or verified
    elseif name == "kong_upstream_target" then
        return settings.target
    elseif name == "kong_upstream_scheme" then
        return settings.scheme or "https"
    elseif name:find("^arg_") then
        return options.args and options.args[name:sub(5)]
    elseif name:find("^http_") then
        return state.headers[name:sub(6):gsub("_", "-")]
    end
end


local function new_ngx()
    local ngx = { null = values.NULL, ctx = {}, header = {}, status = 0, body = "", req = {} }
    for name, value in pairs(CONSTANTS) do
        ngx[name] = value
    end

    ngx.var = setmetatable({}, {
        __index = function(_, name)
            local value = state.var[name]
            if value == nil then
                return variable(name)
            end
            return value
        end,
        __newindex = function(_, name, value)
            state.var[name] = value
        end,
    })

    function ngx.exit(status)
        state.exit = setmetatable({ status = status }, Exit)
        error(state.exit, 0)
    end

    function ngx.log(level, ...)
        state.log[#state.log + 1] = { level = level, message = joined(...) }
    end

    function ngx.print(...)
        ngx.body = ngx.body .. joined(...)
    end

    function ngx.say(...)
        ngx.print(joined(...), "\n")
    end

    function ngx.get_phase()
        return state.PHASES[state.phase]
    end

    function ngx.req.get_method()
        return state.options.method or "GET"
    end

    function ngx.req.get_headers()
        local headers = setmetatable({}, Headers)
        for name, value in pairs(state.headers) do
            headers[name] = value
        end
        return headers
    end

    function ngx.req.set_header(name, value)
        state.headers[name:lower()] = value
    end

    function ngx.req.clear_header(name)
        state.headers[name:lower()] = nil
    end

    function ngx.req.get_uri_args()
        return state.options.args or {}
    end

    return ngx
end


M.ngx = new_ngx()


-- Begins a request: what the last one has left is gone.
function M.begin()
    M.ngx.ctx, M.ngx.header, M.ngx.status, M.ngx.body = {}, {}, 0, ""
end


-- Calls a function, and returns the status that it gave to ngx.exit; nil if it has ended without
-- that.
function M.run(call, ...)
    state.exit = nil
    local ok, err = pcall(call, ...)
    if state.exit then
        return state.exit.status
    elseif not ok then
        error(err, 0)
    end
    return nil
end


local function done()
    return true
end

-- The stand-in for ngx.balancer, as far as the module's own code calls it.
M.balancer = { set_current_peer = done, set_more_tries = done, set_upstream_tls = done }


-- Returns the stand-in for ngx.ssl, as far as it concerns this module.
function M.ssl(x509)
    local ssl = {}

    function ssl.server_name()
        return state.options.server_name
    end

    function ssl.parse_pem_cert(pem)
        local chain, err = x509.chain(pem)
        return chain and chain.ctx, err
    end

    function ssl.parse_pem_priv_key(pem)
        local key, err = x509.key(pem)
        return key and key.ctx, err
    end

    return ssl
end


return M
