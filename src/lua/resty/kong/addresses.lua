-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.addresses: lists of IP addresses and networks, to decide whom a request may come from.

local natives = ...

local at_init = require "resty.kong.tls.at_init"
local mistakes = require "resty.kong.tls.mistakes"
local objects = require "resty.kong.tls.objects"
local check_type = mistakes.check_type

local error = error
local next = next
local rawget = rawget

local methods = {}


-- Returns whether an address, in the format of $remote_addr, is in the list.
function methods:contain(address)
    check_type("address", address, "string", 2, "addresses:contain")
    return natives.contain(self, address)
end


objects.class("addresses", "resty.kong.addresses", methods)

local M = {}

local NEW = "resty.kong.addresses.new"


-- Throws an error about a table without a list in it.
local function reject(ranges)
    -- `new` is also a function of this package.
    local x509 = package.loaded["resty.kong.x509"]
    local owner, label = M, NEW
    if ranges == x509 then
        owner, label = x509, "resty.kong.x509.addresses"
    end
    error(mistakes.about("ranges must be a list", ranges, label, owner), 3)
end


-- Makes a list of addresses and networks, such as "192.0.2.1", "10.0.0.0/8", "2001:db8::/32" and
-- "unix:".
function M.new(ranges)
    check_type("ranges", ranges, "table", 2, NEW)
    if #ranges == 0 and next(ranges) ~= nil then
        reject(ranges)
    end
    local list = {}
    for index = 1, #ranges do
        list[index] = rawget(ranges, index)
        check_type("each of ranges", list[index], "string", 2, NEW)
    end
    at_init.text(table.concat(list, " "))
    return natives.new(list)
end


return M
