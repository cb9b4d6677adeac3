-- SPDX-License-Identifier: Apache-2.0

-- Sends requests of a test to its own nginx, many at a time, and has a plugin that follows their arguments.

local _M = {}


-- The requests that have reached their content handler, by their X-Id.
local arrived = {}
local count = 0


-- Follows the arguments of the request: `host` and `port`, `upstream`, `retries`, `timeouts` (three of them, with
-- commas), `client`.
function _M.plugin()
    local var, service = ngx.var, kong.service
    if var.arg_client then
        assert(service.set_tls_cert_key(cert[var.arg_client], key[var.arg_client]))
    end
    if var.arg_upstream then
        assert(service.set_upstream(var.arg_upstream))
    end
    if var.arg_host then
        service.set_target(var.arg_host, tonumber(var.arg_port))
    end
    if var.arg_retries then
        service.set_retries(tonumber(var.arg_retries))
    end
    if var.arg_timeouts then
        local connect, write, read = var.arg_timeouts:match("^(%d+),(%d+),(%d+)$")
        service.set_timeouts(tonumber(connect), tonumber(write), tonumber(read))
    end
    -- Nothing yields between this and the content handler.
    arrived[var.http_x_id or ""] = true
end


-- Tells the client the number of attempts: after a redirect, those of the last location.
function _M.tell_tries()
    local addresses = (ngx.var.upstream_addr or ""):gsub("^.* : ", "")
    local _, tries = addresses:gsub("[^, ]+", "")
    ngx.header["X-Tries"] = tries
end


-- Sends a POST, and returns the answer: `text` is all of it, `seconds` the time that it took. A `late` body is sent
-- after the content handler has returned without having seen any of it.
function _M.post(uri, options)
    local body = options and options.body or "body"
    count = count + 1
    local id = tostring(count)
    local sock = ngx.socket.tcp()
    sock:settimeout(120000)
    assert(sock:connect("127.0.0.1", ngx.var.server_port))

    ngx.update_time()
    local started = ngx.now()
    local head = "POST " .. uri .. " HTTP/1.0\r\nHost: localhost\r\nX-Id: " .. id
                 .. "\r\nContent-Length: " .. #body .. "\r\n\r\n"
    if options and options.late then
        assert(sock:send(head))
        while not arrived[id] do
            assert(ngx.now() < started + 10, "does not arrive")
            ngx.sleep(0.005)
        end
        assert(sock:send(body))
    else
        assert(sock:send(head .. body))
    end
    local text = assert(sock:receive("*a"))
    sock:close()
    ngx.update_time()
    return { text = text, status = text:match("^HTTP/1.%d (%d+)"), seconds = ngx.now() - started,
             tries = text:match("X%-Tries: (%d+)") }
end


-- Calls `f` with each of `values`, all at the same time, and returns the results.
function _M.all(values, f)
    local threads, results = {}, {}
    for i, value in ipairs(values) do
        threads[i] = ngx.thread.spawn(f, value)
    end
    for i, thread in ipairs(threads) do
        local ok, result = ngx.thread.wait(thread)
        assert(ok, result)
        results[i] = result
    end
    return results
end


-- Prints the status of a POST to each of `uris`, all at the same time, and the time if it took more than 20 s, of a
-- minute. " late" after a URI sends the body late.
function _M.say_all(uris, options)
    local said = _M.all(uris, function(line)
        local uri, late = line:match("^(%S+)( ?l?a?t?e?)$")
        local answer = _M.post(uri, { late = late ~= "", body = options and options.body })
        local slow = answer.seconds > 20 and " after " .. answer.seconds .. " s" or ""
        return uri:match("^[^?]*") .. ": " .. tostring(answer.status) .. slow
    end)
    ngx.say(table.concat(said, "\n"))
end


return _M
