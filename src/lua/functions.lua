-- The functions behind both interfaces: each checks its arguments, throws a plain string at the
-- caller's level where a type is wrong, and returns true, or nil and what went wrong.
--
-- Types are checked here because only LuaJIT knows the C type of a cdata; values, and whether the
-- phase is right, in Rust.

local api, declaration = ...

local ffi = require "ffi"
local get_request = require("resty.core.base").get_request

local type = type
local error = error
local istype = ffi.istype
local ffi_string = ffi.string

local api = ffi.cast(declaration, api)
local text = ffi.new("struct { const char *data; size_t length; }")
local pointer = ffi.new("void *[1]")

local OK = 0
local NONE = 1

-- Names alone, which other libraries may declare too.
ffi.cdef [[
    struct stack_st_X509;
    struct stack_st;
    struct evp_pkey_st;
    struct x509_store_st;
    struct ssl_st;
]]

-- What ngx.ssl gives, what OpenSSL's safe stacks are called, and lua-resty-openssl's name for both.
local VOID = ffi.typeof("void *")
local STACK_OF_X509 = ffi.typeof("struct stack_st_X509 *")
local OPENSSL_STACK = ffi.typeof("struct stack_st *")
local EVP_PKEY = ffi.typeof("struct evp_pkey_st *")
local X509_STORE = ffi.typeof("struct x509_store_st *")
local SSL = ffi.typeof("struct ssl_st *")

-- What is behind the objects of resty.kong.x509, by the object. It is not in them, where Lua code could put
-- something else in its place.
local pointers = setmetatable({}, { __mode = "k" })


local function said()
    return ffi_string(text.data, text.length)
end


local function result(code)
    if code == OK then
        return true
    end
    return nil, said()
end


-- As `result`, for what is asked for: a text, or nil where there is none.
local function text_result(code)
    if code == OK then
        return said()
    end
    if code == NONE then
        return nil
    end
    return nil, said()
end


-- The cdata of an object of resty.kong.x509, or else the value itself.
local function cdata_of(value)
    return type(value) == "table" and pointers[value] or value
end


local function is_chain(value)
    return type(value) == "cdata" and value ~= nil
           and (istype(VOID, value) or istype(STACK_OF_X509, value)
                or istype(OPENSSL_STACK, value))
end


local function is_key(value)
    return type(value) == "cdata" and value ~= nil
           and (istype(VOID, value) or istype(EVP_PKEY, value))
end


local function is_store(value)
    return type(value) == "cdata" and value ~= nil and istype(X509_STORE, value)
end


-- Whether there is an argument, or a field. A NULL, which LuaJIT takes for equal to nil, is one: a wrong one.
local function is_given(value)
    return type(value) ~= "nil"
end


local functions = {}


-- How many strings are in a list of nothing else; nil for what is no such list.
local function count_of_strings(list)
    if type(list) ~= "table" then
        return nil
    end
    local count = 0
    for index, text in pairs(list) do
        if type(index) ~= "number" or type(text) ~= "string" then
            return nil
        end
        count = count + 1
    end
    return count == #list and count or nil
end


-- The strings of a list, as arrays of `count` pointers and lengths. The arrays hold mere pointers: the
-- strings are those of the list, and stay where they are.
local function strings(list, count)
    local data = ffi.new("const char *[?]", count + 1)
    local lengths = ffi.new("size_t[?]", count + 1)
    for i = 1, count do
        local text = rawget(list, i)
        data[i - 1] = text
        lengths[i - 1] = #text
    end
    return data, lengths
end


-- Each function has two parts. The first checks and converts the arguments, and throws at the user's line. It may run code of others (a metamethod), which may yield: the request is another one after that,
-- or has come to another phase. So the second gets the request as it is then; its level 2 is the user's line.

local convert, call = {}, {}


-- Throws at the user's line what is wrong with an argument, unless the phase is wrong: `check` throws that.
-- `deeper` is how many functions there are between this one and one of `convert`.
local function reject(check, message, deeper)
    deeper = deeper or 0
    check(2 + deeper)
    error(message, 4 + deeper)
end


function convert.request_client_certificate(check, ca_certs, options)
    local chain = cdata_of(ca_certs)
    if is_given(ca_certs) and not is_chain(chain) then
        reject(check, "ca_certs must be a parsed cdata object")
    end
    local names, data, lengths, count = nil, nil, nil, 0
    local partial_chain = false
    if is_given(options) then
        if type(options) ~= "table" then
            reject(check, "options must be a table")
        end
        for name, value in pairs(options) do
            if name == "partial_chain" then
                if type(value) ~= "boolean" then
                    reject(check, "partial_chain must be a boolean")
                end
                partial_chain = value
            elseif name == "names" then
                count = count_of_strings(value)
                if not count then
                    reject(check, "names must be a table of strings")
                end
                names = value
                data, lengths = strings(value, count)
            else
                reject(check, "unknown option \"" .. tostring(name) .. "\"")
            end
        end
    end
    return chain, partial_chain and 1 or 0, data, lengths, count, names
end


function call.request_client_certificate(r, chain, partial_chain, data, lengths, count)
    return result(api.request_client_certificate(r, chain, partial_chain, data, lengths, count, text))
end


function call.disable_session_reuse(r)
    return result(api.disable_session_reuse(r, text))
end


function call.disable_http2_alpn(r)
    return result(api.disable_http2_alpn(r, text))
end


function call.get_full_client_certificate_chain(r)
    return text_result(api.get_full_client_certificate_chain(r, text))
end


function convert.set_client_verify(check, value)
    if type(value) ~= "string" then
        reject(check, "client verify value must be a string")
    end
    return value
end


function call.set_client_verify(r, value)
    if api.set_client_verify(r, value, #value, text) ~= OK then
        error(said(), 2)
    end
end


function call.get_request_ssl_pointer(r)
    if api.get_request_ssl_pointer(r, pointer, text) == OK then
        return ffi.cast(SSL, pointer[0])
    end
    return nil, said()
end


function convert.set_upstream(check, host)
    if type(host) ~= "string" then
        reject(check, "host must be a string")
    end
    return host
end


function call.set_upstream(r, host)
    local code = api.set_upstream(r, host, #host, text)
    if code == OK then
        return true
    end
    if code == NONE then
        return nil, said()
    end
    error(said(), 2)
end


local function check_integer(check, name, value)
    if type(value) ~= "number" then
        reject(check, name .. " must be an integer", 1)
    end
end


function convert.set_target(check, host, port)
    if type(host) ~= "string" then
        reject(check, "host must be a string")
    end
    check_integer(check, "port", port)
    return host, port
end


function call.set_target(r, host, port)
    if api.set_target(r, host, #host, port, text) ~= OK then
        error(said(), 2)
    end
end


function convert.set_retries(check, retries)
    check_integer(check, "retries", retries)
    return retries
end


function call.set_retries(r, retries)
    if api.set_retries(r, retries, text) ~= OK then
        error(said(), 2)
    end
end


function convert.set_timeouts(check, connect, write, read)
    check_integer(check, "connect_timeout", connect)
    check_integer(check, "write_timeout", write)
    check_integer(check, "read_timeout", read)
    return connect, write, read
end


function call.set_timeouts(r, connect, write, read)
    if api.set_timeouts(r, connect, write, read, text) ~= OK then
        error(said(), 2)
    end
end


function convert.set_tls_cert_key(check, chain, key)
    chain, key = cdata_of(chain), cdata_of(key)
    if not is_chain(chain) then
        reject(check, "chain must be a parsed cdata object")
    end
    if not is_key(key) then
        reject(check, "key must be a parsed cdata object")
    end
    return chain, key
end


function call.set_tls_cert_key(r, chain, key)
    return result(api.set_tls_cert_key(r, chain, key, text))
end


function convert.set_tls_verify(check, on)
    if type(on) ~= "boolean" then
        reject(check, "argument must be a boolean")
    end
    return on and 1 or 0
end


function call.set_tls_verify(r, on)
    return result(api.set_tls_verify(r, on, text))
end


function convert.set_tls_verify_depth(check, depth)
    if type(depth) ~= "number" then
        reject(check, "argument must be a number")
    end
    return depth
end


function call.set_tls_verify_depth(r, depth)
    return result(api.set_tls_verify_depth(r, depth, text))
end


function convert.set_tls_verify_store(check, store)
    local ctx
    if type(store) == "table" then
        ctx = pointers[store] or store.ctx
    end
    if not is_store(ctx) then
        reject(check, "argument must be a resty.openssl.x509.store object")
    end
    return ctx
end


function call.set_tls_verify_store(r, ctx)
    return result(api.set_tls_verify_store(r, ctx, text))
end


local function convert_names(check, names)
    local count = count_of_strings(names)
    if not count then
        reject(check, "argument must be a table of strings")
    end
    local data, lengths = strings(names, count)
    return data, lengths, count, names
end

convert.set_sans_dnsnames = convert_names
convert.set_sans_uris = convert_names


function call.set_sans_dnsnames(r, data, lengths, count)
    return result(api.set_sans_dnsnames(r, data, lengths, count, text))
end


function call.set_sans_uris(r, data, lengths, count)
    return result(api.set_sans_uris(r, data, lengths, count, text))
end


local M = { is_chain = is_chain, is_given = is_given, pointers = pointers, strings = strings }


-- Takes back where the current request goes, how long and how often it may try, and all settings for the
-- connection to there.
function M.forget_service()
    return result(api.forget_service(get_request(), text))
end


-- Has the client of a handshake, which was asked for its certificate, verified by what a plugin trusts, with
-- so many intermediates at most.
function M.verify_client_with(store, depth)
    return result(api.verify_client_with(get_request(), pointers[store], depth or -1, text))
end


-- What stands for the chain that the client has presented, on this connection or in the handshake whose session is
-- resumed; nil if it has presented none, or nil and what is wrong.
function M.client_chain_digest()
    return text_result(api.client_chain_digest(get_request(), text))
end


-- What nginx has found of the client's certificate, in the handshake, that nobody may overrule: that it is
-- revoked, or that it can't tell; nil if there is nothing.
function M.client_objection()
    if api.client_objection(get_request(), text) == OK then
        return said()
    end
end


-- Counts what has happened in a cache, by its name in the status.
M.HIT, M.MISS, M.EVICTION = 0, 1, 2

function M.count_cache(cache, event)
    api.count_cache(cache, #cache, event)
end


-- Whether functions could take such values, before there is a request: true, or nil and what is wrong.

function M.check_upstream(host)
    return result(api.check_upstream(host, #host, text))
end


function M.check_target(host, port)
    return result(api.check_target(host, #host, port, text))
end


function M.check_names(names)
    local data, lengths = strings(names, #names)
    return result(api.check_names(data, lengths, #names, text))
end


-- For plugins that tell services who the consumer is. The first, in the handshake, makes the module take away
-- from all requests of the connection, before any phase of theirs, what clients say of that; the second takes
-- it from the current one.

function M.guard_headers()
    return result(api.guard_headers(get_request(), text))
end


function M.strip_headers()
    return result(api.strip_headers(get_request(), text))
end


-- Keeps a text under a name for the current request, whatever internal redirects it takes.
function M.keep_text(name, value)
    return result(api.keep_text(get_request(), name, #name, value, #value, text))
end


-- What was kept under a name, or nil.
function M.kept_text(name)
    if api.kept_text(get_request(), name, #name, text) == OK then
        return said()
    end
end


local clocks = ffi.new("double[2]")

-- The time in milliseconds, by a clock that nobody sets, and by the date. For M.counts alone.
function M.moment()
    api.moment(clocks)
    return clocks[0], clocks[1]
end


-- Whether what was found at a moment, and depends on a date, counts still.
function M.counts(monotonic, date, ends)
    return api.counts(monotonic, date, ends) ~= 0
end


-- The DER of a certificate that a proxy has sent in a header, or nil and what is wrong with the text.

local function decoder(decode)
    return function(value)
        if decode(value, #value, text) == OK then
            return said()
        end
        return nil, said()
    end
end

M.decode_url = decoder(api.decode_url)
M.decode_base64 = decoder(api.decode_base64)


-- The function `name` as users call it: without the request. That of the call, and its phase, are those that there are
-- when the arguments are converted; a wrong phase is said before a wrong argument. `wrong_phase` is the error of a wrong one, in place of the text that explains it.
function M.public(name, wrong_phase)
    local convert, call = convert[name], call[name]
    local index = api.find_function(name, #name)
    if not call or index < 0 then
        error("no function " .. name)
    end

    -- `deeper` is how many functions more than ours there are below the user's.
    local function current_request(deeper)
        local r = get_request()
        if api.is_allowed(r, index) == 0 then
            api.phase_error(r, index, text)
            error(wrong_phase or said(), 3 + (deeper or 0))
        end
        return r
    end

    if not convert then
        return function()
            return call(current_request())
        end
    end
    return function(a, b, c)
        local v, w, x, y, z, kept = convert(current_request, a, b, c)
        return call(current_request(), v, w, x, y, z, kept)
    end
end


return M
