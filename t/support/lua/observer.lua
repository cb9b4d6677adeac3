-- SPDX-License-Identifier: Apache-2.0

-- Reports what the services of t/125-verify-before-certificate.t were sent, and what the gateway logged. The services
-- are `openssl s_server -msg`, which prints every message of a handshake.

local _M = {}


local FOLDER = os.getenv("TEST_NGINX_OBSERVERS")
local ERROR_LOG = os.getenv("TEST_NGINX_SERVER_ROOT") .. "/logs/error.log"


-- how much of each file was read
local offsets = {}


local function new_in(path)
    local file = assert(io.open(path))
    file:seek("set", offsets[path] or 0)
    local text = file:read("*a")
    offsets[path] = file:seek()
    file:close()
    return text
end


-- Waits until a service is done with earlier connections. It has one connection at a time, and this one, which is no
-- TLS, comes last.
local function wait_for(name)
    local sock = ngx.socket.tcp()
    sock:settimeout(120000)
    assert(sock:connect("unix:" .. FOLDER .. "/" .. name .. ".sock"))
    assert(sock:send("no TLS\n\n"))
    sock:receive("*a")
    sock:close()
end


-- Describes one connection. A client without a certificate sends a Certificate message too, of no more than 8 bytes.
local function in_words(messages)
    local asked = messages:find(">>> [^\n]*, CertificateRequest\n")
    -- Compressed (RFC 8879) where both sides have OpenSSL 3.2 or later.
    local length = messages:match("<<< [^\n]*Handshake %[length (%x+)%], %a*Certificate\n")

    local got = "no certificate"
    if length then
        got = tonumber(length, 16) > 8 and "a certificate" or "an empty certificate"
    end
    return (asked and "asked" or "did not ask") .. ", got " .. got
end


-- Describes each connection to a service since the last call.
local function seen_by(name)
    wait_for(name)
    local output = new_in(FOLDER .. "/" .. name .. ".out")

    local found = {}
    local from = output:find("<<< [^\n]*, ClientHello\n")
    while from do
        local next_one = output:find("<<< [^\n]*, ClientHello\n", from + 1)
        found[#found + 1] = in_words(output:sub(from, (next_one or 0) - 1))
        from = next_one
    end
    return #found > 0 and table.concat(found, ", ") or "no connection"
end


-- Returns that description in a line, and a line for each error that was logged since the last call.
function _M.report(name)
    local lines = { seen_by(name) }
    for line in new_in(ERROR_LOG):gmatch("[^\n]+") do
        local level, text = line:match("^%S+ %S+ %[(%a+)%] %S+ %*%d+ (.*)$")
        if level and (" error crit alert emerg "):find(" " .. level .. " ", 1, true) then
            lines[#lines + 1] = text:gsub(", client: .*", "")
        end
    end
    return table.concat(lines, "\n")
end


return _M
