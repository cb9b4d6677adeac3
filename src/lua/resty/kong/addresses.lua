-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.addresses: lists of IP addresses and networks, to decide whom a request may come from.

local natives = ...

local objects = require "resty.kong.tls.objects"
local check_type = require("resty.kong.tls.values").check_type

local methods = {}


-- Returns whether an address, in the format of $remote_addr, is in the list.
function methods:contain(address)
    check_type("address", address, "string", 2)
    return natives.contain(self, address)
end


objects.class("addresses", "resty.kong.addresses", methods)

local M = {}


-- Makes a list of addresses and networks, such as "192.0.2.1", "10.0.0.0/8", "2001:db8::/32" and
-- "unix:".
function M.new(ranges)
    check_type("ranges", ranges, "table", 2)
    local list = {}
    for index = 1, #ranges do
        list[index] = rawget(ranges, index)
        check_type("each of ranges", list[index], "string", 2)
    end
    return natives.new(list)
end


return M
