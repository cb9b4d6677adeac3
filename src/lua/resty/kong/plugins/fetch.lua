-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.fetch: a small HTTP/1.1 client (RFC 9112) for answers about revocation. It does
-- not block the worker, and reads no more than it is told to.

local type = type
local tonumber = tonumber
local tcp = ngx.socket.tcp
local clocks = require("resty.kong.tls.functions").clocks
local update_time = ngx.update_time

-- The maximum length of a status line with its headers, and of the line before a chunk, in bytes.
local HEAD = 16 * 1024
local CHUNK_HEAD = 1024
-- The maximum length of a URL.
local MAX_URL = 2048
-- The number of redirects that are followed, and of interim responses (1xx) that are skipped.
local REDIRECTS = 3
local INTERIM = 5
-- The number of bytes that are read at once.
local PIECE = 64 * 1024

local IS_REDIRECT = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

local M = {}


-- Splits a URL: returns a table with host, port, authority and path; or nil and what is wrong.
function M.parse(url)
    if #url > MAX_URL then
        return nil, "the URL is longer than " .. MAX_URL .. " bytes"
    end
    -- Nothing that could end the request line.
    if url:find("[^\33-\126]") then
        return nil, "the URL has a character that must be encoded"
    end
    local scheme, rest = url:match("^(%w+)://(.*)$")
    if not scheme or scheme:lower() ~= "http" then
        return nil, "the URL does not begin with http://"
    end
    local authority, path = rest:match("^([^/?#]*)([^#]*)")
    if authority:find("@", 1, true) then
        return nil, "the URL has a user in it"
    end
    local host, port = authority:match("^(%[[%x:.]+%])(.*)$")
    if not host then
        host, port = authority:match("^([%w._-]+)(.*)$")
    end
    if not host then
        return nil, "the URL has no host"
    end
    if port == "" or port == ":" then
        port = 80
    else
        port = port:find("^:%d+$") and #port <= 6 and tonumber(port:sub(2)) or 0
    end
    if port < 1 or port > 65535 then
        return nil, "the URL has no valid port"
    end
    if path:sub(1, 1) ~= "/" then
        path = "/" .. path
    end
    local shown = port == 80 and host or host .. ":" .. port
    return { host = host, port = port, authority = shown, path = path, url = "http://" .. shown .. path }
end


-- A reader of a socket, which has read `buffer` and no more.
local reader_methods = {}
local reader_meta = { __index = reader_methods }


-- Gives the socket the time that is left. Returns nil and an error if there is none.
local function set_time(self)
    update_time()
    local left = self.deadline - clocks()
    if left < 1 then
        return nil, "timeout"
    end
    self.sock:settimeout(left)
    return true
end


-- Reads more. Returns nil and "closed" at the end of the connection, or another error.
function reader_methods:more()
    local ok, err = set_time(self)
    if not ok then
        return nil, err
    end
    local data
    data, err = self.sock:receiveany(PIECE)
    if not data then
        return nil, err
    end
    self.buffer = self.from > #self.buffer and data or self.buffer:sub(self.from) .. data
    self.from = 1
    return true
end


-- Returns what comes before `mark`, which is at most `limit` bytes, and skips the mark.
function reader_methods:until_mark(mark, limit, what)
    local searched = 0
    while true do
        local first, last = self.buffer:find(mark, self.from + searched, true)
        local length = (first or #self.buffer + 1) - self.from
        if length > limit + (first and 0 or #mark) then
            return nil, what .. " longer than " .. limit .. " bytes"
        end
        if first then
            local found = self.buffer:sub(self.from, first - 1)
            self.from = last + 1
            return found
        end
        searched = math.max(length - #mark + 1, 0)
        local ok, err = self:more()
        if not ok then
            return nil, err == "closed" and "the connection was closed too early" or err
        end
    end
end


-- Appends the next `length` bytes to a list of pieces; `length` is nil for all until the connection
-- is closed. `limit` is the maximum size of what comes.
function reader_methods:take(pieces, length, limit)
    local got = 0
    if length and length > limit then
        return nil, "the body is too large"
    end
    while true do
        local from = self.from
        local data = self.buffer:sub(from, length and from + length - got - 1 or -1)
        self.from = from + #data
        got = got + #data
        pieces[#pieces + 1] = data
        if got == length then
            return true
        elseif got > limit then
            return nil, "the body is too large"
        end
        local ok, err = self:more()
        if not ok then
            if err == "closed" and not length then
                return true
            end
            return nil, err == "closed" and "the connection was closed too early" or err
        end
    end
end


-- Reads a body in chunks (RFC 9112, section 7.1).
local function chunks(reader, pieces, limit)
    local size, count = 0, 0
    while true do
        local line, err = reader:until_mark("\r\n", CHUNK_HEAD, "the line of a chunk is")
        if not line then
            return nil, err
        end
        local digits = line:match("^(%x+)[ \t]*$") or line:match("^(%x+)[ \t]*;")
        local length = digits and #digits <= 8 and tonumber(digits, 16)
        if not length then
            return nil, "a chunk has no length"
        end
        if length == 0 then
            return true
        end
        -- The time that chunks take, which may have one byte each, is limited as well.
        count = count + 1
        if count > 1024 + limit / 64 then
            return nil, "there are too many chunks"
        end
        local ok
        ok, err = reader:take(pieces, length, limit - size)
        if not ok then
            return nil, err
        end
        size = size + length
        local rest
        rest, err = reader:until_mark("\r\n", 0, "a chunk is")
        if not rest then
            return nil, err
        end
    end
end


-- Reads the status and the headers of a response; several values of a header are an error where
-- they differ.
local function head_of(reader)
    for _ = 1, INTERIM do
        local text, err = reader:until_mark("\r\n\r\n", HEAD, "the head of the response is")
        if not text then
            return nil, err
        end
        local status, fields = (text .. "\r\n"):match("^HTTP/1%.[01] (%d%d%d)[^\r\n]*\r\n(.*)$")
        if not status then
            return nil, "it is no HTTP/1 response"
        end
        status = tonumber(status)
        if status >= 200 then
            local headers = {}
            for line in fields:gmatch("(.-)\r\n") do
                local name, value = line:match("^([%w!#$%%&'*+.^_`|~-]+):[ \t]*(.-)[ \t]*$")
                if not name then
                    return nil, "a header can't be read"
                end
                name = name:lower()
                local is_of_length = name == "content-length" or name == "transfer-encoding"
                if is_of_length and headers[name] and headers[name] ~= value then
                    return nil, "the header " .. name .. " is there twice"
                end
                headers[name] = value
            end
            return status, headers
        end
    end
    return nil, "there are too many interim responses"
end


local function body_of(reader, headers, limit)
    local pieces = {}
    local encoding, length = headers["transfer-encoding"], headers["content-length"]
    local ok, err
    if headers["content-encoding"] and headers["content-encoding"]:lower() ~= "identity" then
        return nil, "the body is compressed"
    end
    if encoding then
        if encoding:lower() ~= "chunked" or length then
            return nil, "the transfer-encoding is not known"
        end
        ok, err = chunks(reader, pieces, limit)
    else
        if length then
            if not length:find("^%d+$") or #length > 15 then
                return nil, "the content-length is no number"
            end
            length = tonumber(length)
        end
        ok, err = reader:take(pieces, length, limit)
    end
    if not ok then
        return nil, err
    end
    return table.concat(pieces)
end


-- Sends one request. Returns the status, the headers, and the body of a response with status 200.
local function exchange(sock, request, target, deadline)
    local proxy = request.proxy
    local reader = setmetatable({ sock = sock, buffer = "", from = 1, deadline = deadline }, reader_meta)
    local place = proxy or target
    local ok, err = set_time(reader)
    if ok then
        ok, err = sock:connect(place.host, place.port)
    end
    if not ok then
        return nil, (proxy and "proxy " .. proxy.authority .. ": " or "") .. err, true
    end
    local method = request.body and "POST" or "GET"
    local lines = {
        method .. " " .. (proxy and target.url or target.path) .. " HTTP/1.1",
        "Host: " .. target.authority,
        "Connection: close",
    }
    if request.body then
        lines[#lines + 1] = "Content-Type: " .. request.content_type
        lines[#lines + 1] = "Content-Length: " .. #request.body
    end
    lines[#lines + 1] = "\r\n"
    ok, err = set_time(reader)
    if ok then
        ok, err = sock:send(table.concat(lines, "\r\n") .. (request.body or ""))
    end
    if not ok then
        return nil, err, true
    end
    local status, headers = head_of(reader)
    if not status then
        return nil, headers, true
    end
    if status ~= 200 then
        return status, headers
    end
    local body
    body, err = body_of(reader, headers, request.limit)
    if not body then
        return nil, err, true
    end
    return status, headers, body
end


-- Returns the URL that a redirect leads to.
local function redirected(target, location)
    if type(location) ~= "string" or location == "" then
        return nil, "a redirect leads nowhere"
    elseif location:find("^%w+:") then
        return M.parse(location)
    elseif location:sub(1, 2) == "//" then
        return M.parse("http:" .. location)
    elseif location:sub(1, 1) == "/" then
        return M.parse("http://" .. target.authority .. location)
    end
    return M.parse("http://" .. target.authority .. target.path:gsub("%?.*$", ""):gsub("[^/]*$", "") .. location)
end


-- Fetches a URL, with GET, or with POST if there is a body. Fields of the request:
--
--     url            the URL
--     timeout        the milliseconds for all of it
--     limit          the maximum size of the response's body
--     proxy          the proxy, as `parse` returns it, if there is one
--     body           what to send, and its content_type
--
-- Returns the body of a response with status 200. Otherwise returns nil, what went wrong, and whether
-- that has to do with the server and not with what it was asked for.
function M.fetch(request)
    update_time()
    local deadline = clocks() + request.timeout
    local target, err = M.parse(request.url)
    if not target then
        return nil, err
    end
    for _ = 0, REDIRECTS do
        local sock
        sock, err = tcp()
        if not sock then
            return nil, err
        end
        local status, headers, body = exchange(sock, request, target, deadline)
        sock:close()
        if not status then
            return nil, headers, body
        elseif status == 200 then
            return body
        elseif request.body or not IS_REDIRECT[status] then
            return nil, "it answers with status " .. status, status >= 500 or status == 429
        end
        target, err = redirected(target, headers.location)
        if not target then
            return nil, "redirect: " .. err
        end
    end
    return nil, "it redirects more than " .. REDIRECTS .. " times"
end


return M
