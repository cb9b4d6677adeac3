-- SPDX-License-Identifier: Apache-2.0

-- Runs in the gateways that have plugins, before they answer requests.

kong = require "resty.kong.pdk"

local ssl = require "ngx.ssl"

local function read(name)
    local file = io.open(ngx.config.prefix() .. name)
    if not file then
        return nil
    end
    local pem = file:read("*a")
    file:close()
    return pem
end

-- Reads the CAs of a file.
function read_authorities(name)
    authorities = assert(require("resty.kong.x509").chain(read(name)))
end

-- Reads the certificates of a folder, by the number in their names as a string, like `ngx.var`.
function read_identities(folder)
    identities = {}
    for n = 1001, math.huge do
        local chain, key = read(folder .. n .. ".crt"), read(folder .. n .. ".key")
        if not chain then
            break
        end
        identities[tostring(n)] = {
            chain = assert(ssl.parse_pem_cert(chain)),
            key = assert(ssl.parse_pem_priv_key(key)),
            pem = { chain = chain, key = key },
        }
    end
end

-- Returns this many consumers, of which one is known by a common name.
function consumers(count, common_name)
    local all = {}
    for number = 1, count do
        local is_it = number == math.ceil(count / 2)
        all[number] = { name = "consumer-" .. number, common_name = is_it and common_name or "client-of-" .. number }
    end
    return all
end
