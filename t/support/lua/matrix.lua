-- SPDX-License-Identifier: Apache-2.0

-- The gateway's side of t/120-identity-matrix.t: the settings that a request asks for, and a driver that sends the
-- requests one after the other and reports the answers.

local ffi = require "ffi"
local pki = require "pki"
local ssl = require "ngx.ssl"
local C = ffi.C


local _M = {}


local HTML_DIR = os.getenv("TEST_NGINX_HTML_DIR")
local ERROR_LOG = os.getenv("TEST_NGINX_SERVER_ROOT") .. "/logs/error.log"


-- ---- certificates and stores ------------------------------------------------

local function certificate(name)
    return { chain = pki.chain(name), key = pki.key(name) }
end


-- Returns the leaf of a file, without the certificates after it.
local function leaf_alone(name)
    local pem = pki.read(name, ".crt"):match("^.-%-%-%-%-%-END CERTIFICATE%-%-%-%-%-\n")
    return { chain = assert(ssl.parse_pem_cert(pem)), key = pki.key(name) }
end


local certificates = {
    ["client1"] = certificate("client1"),
    ["client1-again"] = certificate("client1"),
    ["client1-renewed"] = certificate("client1-renewed"),
    ["client2"] = certificate("client2"),
    ["chain"] = certificate("client-intermediate"),
    ["chain-leaf"] = leaf_alone("client-intermediate"),
}


local CRL_SIGN = 6  -- X509_PURPOSE_CRL_SIGN


local function checked(store)
    return pki.set_flags(store, pki.CRL_CHECK)
end


local function for_crls(store)
    assert(C.X509_STORE_set_purpose(store.ctx, CRL_SIGN) == 1)
    return store
end


local stores = {
    ["root"] = pki.store("ca"),
    ["root-again"] = pki.store("ca"),
    ["other"] = pki.store("other-ca"),
    ["both"] = pki.store("ca", "other-ca"),
    ["both-turned"] = pki.store("other-ca", "ca"),
    ["list"] = pki.revoke(pki.store("ca"), "empty"),
    ["list-checked"] = checked(pki.revoke(pki.store("ca"), "empty")),
    ["revoked-checked"] = checked(pki.revoke(pki.store("ca"), "revoked")),
    ["purpose"] = for_crls(pki.store("ca")),
}


-- Returns the pin of the key in a certificate.
local function pin(name)
    local pipe = io.popen("openssl x509 -noout -pubkey -in " .. pki.path(name) .. " | openssl pkey -pubin -outform DER"
                          .. " | openssl dgst -sha256 -binary | base64")
    local digest = assert(pipe:read("*l"))
    pipe:close()
    return digest
end


local right, wrong = { pin("service"), pin("service-deep") }, pin("service-other")

local pins = {
    right = { spki = right },
    more = { spki = { wrong, right[1], right[2] } },
    wrong = { spki = { wrong } },
}


local ID, ID_BELOW = "spiffe://test/service", "spiffe://test/*"

-- Makes a table of one trust domain, with this store.
local function spiffe_by(store, ...)
    return { trust_domains = { test = stores[store] }, ids = { ... } }
end


local spiffe = {
    ["id"] = spiffe_by("root", ID),
    ["id-again"] = spiffe_by("root-again", ID),
    ["id-other"] = spiffe_by("root", "spiffe://test/other"),
    ["below"] = spiffe_by("root", ID_BELOW),
    ["store-both"] = spiffe_by("both", ID),
    ["store-other"] = spiffe_by("other", ID),
    ["domains"] = { trust_domains = { test = stores.root, ["other.test"] = stores.other }, ids = { ID } },
}


local options = {
    ["group"] = { groups = "P-256" },
    -- In TLS 1.2, the key of the service must be in one of the groups, too.
    ["group-other"] = { groups = "P-384:P-256" },
    ["version"] = { min_version = "TLSv1.2" },
    ["ciphers"] = { ciphers = "ECDHE+AESGCM", ciphersuites = "TLS_AES_128_GCM_SHA256" },
}


-- Stores that grow while requests use them. Each pair has its own.
local growing = {}


local function own(name, pair, make)
    local key = name .. " " .. pair
    growing[key] = growing[key] or make()
    return growing[key]
end


-- "ca:" and "ca:other-ca" are the same store, before and after it has grown; "ca/1:" is another store that begins
-- with the same contents. "directory:ca" looks for certificates in a folder when it needs them, and keeps those that
-- it has found.
local function store(name, pair)
    local first, second = name:match("^(.*):(.*)$")
    if not first then
        return assert(stores[name], name)
    end
    if first == "directory" then
        return own(name, pair, function()
            local it = pki.store()
            local folder = HTML_DIR .. "/authorities/" .. second
            assert(C.X509_STORE_load_locations(it.ctx, nil, folder) == 1)
            return it
        end)
    end

    local it = own(first, pair, function() return pki.store((first:gsub("/.*", ""))) end)
    if second ~= "" and not it.grown then
        pki.grow(it, second)
        it.grown = true
    end
    return it
end


-- ---- settings ---------------------------------------------------------------

local function list(text)
    local names = {}
    for name in text:gmatch("[^,]+") do
        names[#names + 1] = name
    end
    return names
end


-- Makes the settings of the request's arguments, if `phase` is the phase for them.
function _M.apply(phase)
    local args = ngx.req.get_uri_args()
    if (args.phase or "access") ~= phase then
        return
    end

    local service = kong.service
    if args.cert then
        local it = assert(certificates[args.cert], args.cert)
        assert(service.set_tls_cert_key(it.chain, it.key))
    end
    if args.verify then
        assert(service.set_tls_verify(args.verify == "on"))
    end
    if args.depth then
        assert(service.set_tls_verify_depth(tonumber(args.depth)))
    end
    if args.store then
        assert(service.set_tls_verify_store(store(args.store, args.pair)))
    end
    if args.dns or args.uri or args.ip or args.email or args.host then
        assert(service.set_tls_verify_names {
            host = args.host or false, dns = args.dns and list(args.dns), uris = args.uri and list(args.uri),
            ips = args.ip and list(args.ip), emails = args.email and list(args.email),
        })
    end
    if args.pins then
        assert(service.set_tls_pins(pins[args.pins]))
    end
    if args.spiffe then
        assert(service.set_tls_verify_spiffe(spiffe[args.spiffe]))
    end
    if args.options then
        assert(service.set_tls_options(options[args.options]))
    end
    if args.sent then
        assert(service.set_tls_server_name(args.sent == "none" and "" or args.sent))
    end
end


-- For balancer_by_lua: selects the peer of the pair.
function _M.balance()
    _M.apply("balancer")
    local path = HTML_DIR .. "/peer/" .. ngx.var.arg_pair .. ".sock"
    assert(require("ngx.balancer").set_current_peer("unix:" .. path))
end


-- ---- the driver -------------------------------------------------------------

local function get(socket, uri)
    local sock = ngx.socket.tcp()
    sock:settimeout(120000)
    assert(sock:connect("unix:" .. HTML_DIR .. "/" .. socket .. ".sock"))
    assert(sock:send("GET " .. uri .. " HTTP/1.0\r\nHost: gateway.test\r\n\r\n"))
    local response = assert(sock:receive("*a"))
    sock:close()
    return response:match("^HTTP/%S+ (%d+)"), response:match("\r\n\r\n([^\n]*)")
end


-- Returns what the log says about a request that was refused: the gateway's errors, and how far the service got in
-- its handshake.
local function refusal(log)
    local gateway, service = {}, "was not told"

    -- The connection is closed when the response is here, or in the same turn of the event loop. Each sleep is at
    -- least one more turn.
    for _ = 1, 20 do
        for line in log:lines() do
            local level, text = line:match("^%S+ %S+ %[(%a+)%] %S+ %*%d+ (.*)$")
            if level == "info" then
                if text:find("while SSL handshaking, client:", 1, true) then
                    service = "was left in the handshake"
                elseif text:find("while waiting for request, client:", 1, true) then
                    service = "had its handshake"
                end
            elseif level == "error" or level == "crit" or level == "alert" then
                gateway[#gateway + 1] = "[" .. level .. "] " .. text:gsub(", client: .*", "")
            end
        end
        if service ~= "was not told" then
            break
        end
        ngx.sleep(0.001)
    end
    return table.concat(gateway, "; ") .. ", the service " .. service
end


local function answer(socket, uri, log)
    if log then
        log:seek("end")
    end
    local ok, status, body = pcall(get, socket, uri)
    if not ok then
        return "no answer: " .. status
    elseif status == "200" then
        return body
    end
    return log and status .. " " .. refusal(log) or status
end


-- Each line of the request's body is a socket of the gateway and a URI to request there. Prints a line for each: what
-- the service answered, or the status and why the service did not answer. With several threads, the lines of the log
-- can't be assigned to requests.
function _M.drive()
    ngx.req.read_body()
    local next_line = ngx.req.get_body_data():gmatch("(%S+) (%S+)")
    local threads = tonumber(ngx.var.arg_threads) or 1
    local log = threads == 1 and assert(io.open(ERROR_LOG)) or nil

    local answers, count = {}, 0
    local function run()
        for socket, uri in next_line do
            count = count + 1
            local index = count
            answers[index] = answer(socket, uri, log) .. "\n"
        end
    end

    local running = {}
    for i = 1, threads do
        running[i] = ngx.thread.spawn(run)
    end
    for i = 1, threads do
        assert(ngx.thread.wait(running[i]))
    end
    if log then
        log:close()
    end
    ngx.print(answers)
end


return _M
