-- SPDX-License-Identifier: Apache-2.0

-- Runs real TLS and HTTP clients from a test's Lua code, without blocking the worker.
--
-- The programs are started by a process next to nginx (see TestKong.pm), so this works wherever
-- sockets do: content, access, rewrite and timer handlers.

local fmt = string.format


local _M = {}


local PKI = os.getenv("TEST_NGINX_PKI")
local RUNNER = os.getenv("TEST_NGINX_CLIENT_SOCKET")


-- ---- any program ------------------------------------------------------------

local function item(value)
    value = tostring(value)
    return #value .. ":" .. value
end


local function read_item(sock)
    local read_size = sock:receiveuntil(":")
    local size, err = read_size()
    if not size then
        return nil, err
    end

    size = tonumber(size)
    if size == 0 then
        return ""
    end

    return sock:receive(size)
end


-- Runs `argv` and returns { out, err, code }. `code` is the exit status, 128 +
-- n for a program killed by signal n, and 124 (with `timeout = true`) for one
-- that was killed because it did not end in time.
--
-- Options: stdin (a string, "" by default), timeout (in seconds, 120 by default: nginx may be in valgrind).
function _M.run(argv, opts)
    opts = opts or {}
    local timeout = opts.timeout or 120

    local sock = ngx.socket.tcp()
    -- only takes this long when the runner is broken
    sock:settimeout((timeout + 10) * 1000)

    assert(RUNNER, "TEST_NGINX_CLIENT_SOCKET is not set, use TestKong")
    assert(sock:connect("unix:" .. RUNNER))

    local request = { item(timeout), item(opts.stdin or ""), item(#argv) }
    for _, word in ipairs(argv) do
        request[#request + 1] = item(word)
    end
    assert(sock:send(request))

    local status = assert(read_item(sock))
    local out = assert(read_item(sock))
    local err = assert(read_item(sock))
    sock:close()

    local code
    if status == "timeout" then
        code = 124
    else
        status = tonumber(status)
        local signal = status % 128
        code = signal ~= 0 and 128 + signal or math.floor(status / 256)
    end

    return { out = out, err = err, code = code, timeout = status == "timeout" }
end


-- Runs curl with these arguments, without the user's configuration.
function _M.curl(args)
    local argv = { "curl", "-q", "-sS", "--noproxy", "*" }
    for _, arg in ipairs(args) do
        argv[#argv + 1] = arg
    end

    return _M.run(argv, { stdin = args.stdin, timeout = args.timeout })
end


-- ---- openssl s_client -------------------------------------------------------

-- Returns a path, or the path of a file in the PKI by its name.
local function file(name, suffix)
    if name:find("/", 1, true) then
        return name
    end

    return fmt("%s/%s%s", PKI, name, suffix)
end


local function exists(path)
    local handle = io.open(path)
    if handle then
        handle:close()
        return true
    end
    return false
end


-- s_client names a version of the protocol "TLSv1.2", its option is -tls1_2.
local function version_option(version)
    return "-tls" .. tostring(version):gsub("%.", "_")
end


local function s_client_argv(opts)
    -- s_client writes the response past its own buffer, into the middle of its other output
    local argv = { "stdbuf", "-o0", "openssl", "s_client" }

    local function add(...)
        for i = 1, select("#", ...) do
            argv[#argv + 1] = tostring((select(i, ...)))
        end
    end

    if opts.unix then
        add("-unix", opts.unix)
    else
        add("-connect", fmt("%s:%s", opts.host or "127.0.0.1",
                            assert(opts.port, "no port")))
    end

    if opts.servername then
        add("-servername", opts.servername)
    else
        add("-noservername")
    end

    if opts.cert then
        local cert = file(opts.cert, ".crt")
        local key = opts.key and file(opts.key, ".key")
                    or cert:gsub("%.crt$", ".key")
        add("-cert", cert, "-key", key)

        -- -cert only sends the first certificate of a file
        local chain = opts.chain and file(opts.chain, ".crt")
                      or cert:gsub("%.crt$", "-chain.crt")
        if exists(chain) then
            add("-cert_chain", chain)
        end
    end

    if opts.pass then
        add("-pass", "pass:" .. opts.pass)
    end
    if opts.ca then
        add("-CAfile", file(opts.ca, ".crt"), "-verify_return_error")
    end
    if opts.tls then
        add(version_option(opts.tls))
    end
    if opts.alpn then
        add("-alpn", opts.alpn)
    end
    if opts.sess_out then
        add("-sess_out", opts.sess_out)
    end
    if opts.sess_in then
        add("-sess_in", opts.sess_in)
    end

    -- makes it end with the connection, not with its input
    if opts.request ~= false then
        add("-ign_eof")
    end

    for _, arg in ipairs(opts.args or {}) do
        add(arg)
    end

    return argv
end


local function acceptable_cas(out)
    local list = {}
    local from = select(2, out:find("\nAcceptable client certificate CA names\n",
                                    1, true))
    if not from then
        return list
    end

    for line in out:sub(from + 1):gmatch("([^\n]*)\n") do
        -- each name has an attribute, the lines after the names have none
        if not line:find("=", 1, true) then
            break
        end
        -- OpenSSL before 3.2 prints spaces there
        list[#list + 1] = (line:gsub(" = ", "="))
    end

    return list
end


-- Returns the response in the output of s_client, without what s_client adds.
local function response(out)
    local from = out:find("HTTP/%d%S* %d%d%d")
    if not from then
        return nil, nil, ""
    end

    local text = out:sub(from):gsub("read R BLOCK\n", "")
                    :gsub("closed\n$", ""):gsub("read:errno=%d+\n$", "")
    local head, body = text:match("^(.-\r\n)\r\n(.*)$")
    if not head then
        return nil, text, ""
    end

    return tonumber(head:match("^HTTP/%S+ (%d+)")), head, body
end


local function count(text, what)
    return select(2, text:gsub(what, ""))
end


-- Makes a TLS connection with `openssl s_client`, sends a request and waits for
-- the server to close the connection.
--
-- Options: port or unix (and host); servername; tls ("1.2" or "1.3"); alpn;
-- cert, key, chain, ca (names in the PKI, or paths; the key and the chain of a
-- certificate are found by its name; with a ca, the server must have a
-- certificate issued by it); pass (of the key); sess_out, sess_in (paths); request
-- (false for a handshake alone); args (more arguments); timeout.
--
-- Returns { code, out, err } of the program and
--
--   reused          whether the session was resumed
--   protocol        "TLSv1.2", "TLSv1.3", or nil without a handshake
--   alpn            the protocol selected, or nil
--   cert_requested  whether the server requested a certificate
--   acceptable_cas  CA names that the server sent with that, a list
--   session_id      in hex, or ""
--   tickets         number of session tickets that the server sent; with TLS 1.2, 1
--                   if the session has a ticket
--   verify          result of checking the server's certificate, 0 for success
--   alert, alert_name    number and name of the alert received, or nil
--   status, headers, body    of the response
function _M.s_client(opts)
    local request = opts.request
    if request == nil then
        request = fmt("GET / HTTP/1.0\r\nHost: %s\r\n\r\n",
                      opts.servername or "localhost")
    end

    local res = _M.run(s_client_argv(opts),
                       { stdin = request or "", timeout = opts.timeout })
    local out, err = res.out, res.err

    -- "New, (NONE), Cipher is (NONE)" when there was no handshake
    local kind, version = out:match("\n(%a+), (%w%S*), Cipher is ")
    res.reused = kind == "Reused"
    -- this version may be that of the cipher
    res.protocol = kind and (out:match("\n    Protocol  : (%S+)") or version)

    res.alpn = out:match("\nALPN protocol: ([^\n]+)")
    res.cert_requested = out:find("\nRequested Signature Algorithms:", 1, true) ~= nil
                         or out:find("\nClient Certificate Types:", 1, true) ~= nil
    res.acceptable_cas = acceptable_cas(out)
    res.session_id = out:match("\n    Session%-ID: (%x+)") or ""
    res.tickets = count(out, "Post%-Handshake New Session Ticket arrived:")
    if res.protocol ~= "TLSv1.3" and out:find("\n    TLS session ticket:", 1, true) then
        res.tickets = 1
    end
    res.verify = tonumber(out:match("\nVerify return code: (%d+)")
                          or out:match("\n    Verify return code: (%d+)"))

    res.alert = tonumber(err:match("SSL alert number (%d+)"))
    res.alert_name = err:match(":%a+v?%d* alert ([%a ]+):")
    res.status, res.headers, res.body = response(out)

    return res
end


return _M
