-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.addresses

---Addresses and networks: `"192.0.2.1"`, `"10.0.0.0/8"`, `"2001:db8::/32"`, `"unix:"`.
---@class resty.kong.addresses.list
local list = {}

---Returns whether an address, in the form of `$remote_addr`, is in the list.
---@param address string
---@return boolean
function list:contain(address) end

---`require "resty.kong.addresses"`
---@class resty.kong.addresses
local addresses = {}

---@param ranges string[]
---@return resty.kong.addresses.list?
---@return string? err
function addresses.new(ranges) end

return addresses
