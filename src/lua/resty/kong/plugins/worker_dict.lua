-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.worker_dict: what a lua_shared_dict is, but for one worker alone: for plugins that
-- were given none.

local bounded = require "resty.kong.plugins.bounded"
local clocks = require("resty.kong.tls.functions").clocks

local setmetatable = setmetatable

-- The estimated size of an entry besides its texts, in bytes.
local ENTRY = 200

local methods = {}


function methods:get(key)
    local entry = self.entries:get(key)
    return entry and clocks() < entry.ends and entry.value or nil
end


-- Keeps a value for some seconds. Returns true, or nil and an error.
function methods:set(key, value, seconds)
    local bytes = ENTRY + #key + #value
    if bytes > self.entries.most_bytes then
        return nil, "no memory"
    end
    self.entries:set(key, { value = value, ends = clocks() + seconds * 1000 }, bytes)
    return true
end


-- The same, but returns false if there is a value.
function methods:add(key, value, seconds)
    if self:get(key) then
        return false
    end
    return self:set(key, value, seconds)
end


function methods:delete(key)
    self.entries:remove(key)
end


local meta = { __index = methods }

local M = {}


-- Makes a dict with limits for the number of its entries and for their size. `cache` is the name under
-- which the status counts its evictions.
function M.new(cache, most, most_bytes)
    return setmetatable({ entries = bounded.new(cache, most, most_bytes) }, meta)
end


return M
