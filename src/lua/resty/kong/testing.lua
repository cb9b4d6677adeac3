-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.testing: stand-ins for unit tests of plugins outside of nginx, in LuaJIT or any Lua from
-- 5.1 on.
--
-- nginx does not load this file. It runs the module's own Lua code (pdk.lua, tls.lua, x509.lua, and
-- what these require), and stands in for what that code gets from LuaJIT, from nginx, and from
-- Rust. So the checks of arguments and their words are those of the module. t/206-testing.t
-- compares the rest with the module.

local debug, error, io, ipairs, pairs = debug, error, io, ipairs, pairs
local setmetatable, real_require = setmetatable, require
local load_string = loadstring or load

local certificates = require "resty.kong.testing.certificates"
local functions = require "resty.kong.testing.functions"
local nginx = require "resty.kong.testing.nginx"
local state = require "resty.kong.testing.state"
local values = require "resty.kong.testing.values"

-- ---- the module's own Lua code ------------------------------------------------------------------

-- The packages that have been loaded.
local loaded = {
    ffi = values.ffi,
    ["ngx.balancer"] = nginx.balancer,
    ["resty.core.base"] = { get_request = function() return nil end },
    ["resty.kong.addresses"] = { new = function() error("resty.kong.addresses has no stand-in", 2) end },
}

-- What packages get from Rust.
local natives = {
    ["resty.kong.tls.at_init"] = { loaded = { true } },
    ["resty.kong.tls.functions"] = functions(),
    ["resty.kong.tls.objects"] = certificates.objects,
    ["resty.kong.x509"] = certificates.x509,
}

-- The globals of the module's code.
local environment = setmetatable({ type = values.type_of, loadstring = load_string }, {
    __index = function(_, name)
        local value = _G[name]
        if name == "ngx" and value == nil then
            return nginx.ngx
        end
        return value
    end,
})


-- Opens a file of the module: it is beside this one in the sources, and in a folder when installed.
local function open(path)
    local here = debug.getinfo(1, "S").source:match("^@(.*)testing%.lua$") or ""
    for _, folder in ipairs { here .. "testing/module/", here } do
        local file = io.open(folder .. path)
        if file then
            return file
        end
    end
    error("resty.kong.testing needs " .. here .. "testing/module/" .. path .. ", which is not there", 0)
end


local function compile(source, name)
    if not setfenv then
        return assert(load(source, name, "t", environment))
    end
    return setfenv(assert(load_string(source, name)), environment)
end


function environment.require(name)
    if loaded[name] == nil then
        local path = name:match("^resty%.kong%.(.+)$")
        if not path then
            return real_require(name)
        end
        path = path:gsub("%.", "/") .. ".lua"
        local file = open(path)
        local source = file:read("*a")
        file:close()
        loaded[name] = compile(source, "@" .. path)(natives[name])
    end
    return loaded[name]
end


-- ---- the interface ------------------------------------------------------------------------------

state.begin("init", {})

local M = {
    ngx = nginx.ngx,
    kong = environment.require "resty.kong.pdk",
    tls = environment.require "resty.kong.tls",
    x509 = environment.require "resty.kong.x509",
}

M.ssl = nginx.ssl(M.x509)

local mistakes = environment.require "resty.kong.tls.mistakes"

-- The packages of the module that have no stand-in, and what to do without them.
local MISSING = {
    ["resty.kong.addresses"] = "put your own into package.loaded",
    ["resty.kong.forwarded_certificate"] = "put your own into package.loaded",
    ["resty.kong.plugins.header_cert_auth"] = "say who the client is by testing.request { consumer = ... }",
    ["resty.kong.plugins.mtls_auth"] = "say who the client is by testing.request { consumer = ... }",
    ["resty.kong.plugins.services"] = "put your own into package.loaded",
    ["resty.kong.plugins.sni"] = "put your own into package.loaded",
    ["resty.kong.sessions"] = "put your own into package.loaded",
}


-- Makes the stand-ins what plugins get: the globals kong and ngx, and the packages of the module.
function M.install()
    _G.kong, _G.ngx = M.kong, M.ngx
    local packages = {
        ["resty.kong.pdk"] = M.kong, ["resty.kong.tls"] = M.tls, ["resty.kong.x509"] = M.x509, ["ngx.ssl"] = M.ssl,
    }
    for name, package_of in pairs(packages) do
        package.loaded[name] = package_of
    end
    for name, remedy in pairs(MISSING) do
        package.preload[name] = package.preload[name] or function()
            error(name .. " has no stand-in in resty.kong.testing: " .. remedy, 0)
        end
    end
end


local function check_phase_name(phase, level)
    if not state.PHASES[phase] then
        error(mistakes.unknown("phase", phase, state.PHASES), level + 1)
    end
end


local REQUEST_OPTIONS = {
    args = true, client_certificate = true, client_certificate_error = true, client_verify = true, consumer = true,
    enforce_verification = true, headers = true, method = true, phase = true, server_name = true,
    upstreams = true, uri = true, var = true,
}


-- Begins a connection with a request, for which nothing is set. Options:
--
--     phase                     the phase; default: "access"
--     headers, args, method     of the request
--     uri                       its path; default: "/"
--     consumer                  whom mtls_auth or header_cert_auth has found
--     var                       values of ngx.var
--     server_name               what the client asks for (SNI)
--     client_certificate        the client's chain in PEM, made by testing.certificate
--     client_certificate_error  why it is not known, as on some resumed sessions
--     client_verify             $ssl_client_verify; default: "SUCCESS" with a chain, else "NONE"
--     upstreams                 the names of the upstream {} blocks; by default, all names are there
--     enforce_verification      whether the location has kong_tls_certificate_verify on
function M.request(options)
    options = options or {}
    for option in pairs(options) do
        if not REQUEST_OPTIONS[option] then
            error(mistakes.unknown("option", option, REQUEST_OPTIONS) .. ": testing.request", 2)
        end
    end
    local phase = options.phase or "access"
    check_phase_name(phase, 2)
    state.begin(phase, options)
    nginx.begin()
end


-- Sets the phase of the functions that are called next.
function M.phase(name)
    check_phase_name(name, 2)
    state.phase = name
end


-- Calls a function in a phase, and returns the status that it gave to ngx.exit; nil if it has ended
-- without that. Throws what the function throws: nginx would answer 500, or end the handshake.
function M.run(phase, call, ...)
    check_phase_name(phase, 2)
    state.phase = phase
    return nginx.run(call, ...)
end


-- Returns what was set for the request and its connection.
function M.settings()
    local copy = {}
    for name, value in pairs(state.settings) do
        copy[name] = value
    end
    return copy
end


-- Returns what was logged for the request: tables with level and message.
function M.log()
    return state.log
end


M.certificate, M.key = certificates.certificate, certificates.key

return M
