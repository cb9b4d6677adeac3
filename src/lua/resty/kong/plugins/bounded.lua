-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.bounded: a table with limits for the number of its entries and for their size.
--
-- When it is full, a new entry evicts the less recently used of two random entries. If the least
-- recently used of all were evicted, then a cycle through one entry more than there is room for
-- would miss every time.

local functions = require "resty.kong.tls.functions"

local random = math.random
local count_cache, EVICTION = functions.count_cache, functions.EVICTION
local setmetatable = setmetatable

local methods = {}


function methods:get(key)
    local place = self.places[key]
    if place then
        self.uses = self.uses + 1
        self.used[place] = self.uses
        return self.values[place]
    end
end


-- Returns how many bytes the value of a key takes, as `set` was told; nil if there is none.
function methods:size(key)
    local place = self.places[key]
    return place and self.sizes[place]
end


local function remove(self, place)
    local places, keys, values, sizes, used = self.places, self.keys, self.values, self.sizes, self.used
    local last = self.count
    self.bytes = self.bytes - sizes[place]
    places[keys[place]] = nil
    if place ~= last then
        keys[place], values[place], sizes[place], used[place] = keys[last], values[last], sizes[last], used[last]
        places[keys[place]] = place
    end
    keys[last], values[last], sizes[last], used[last] = nil, nil, nil, nil
    self.count = last - 1
end


function methods:remove(key)
    local place = self.places[key]
    if place then
        remove(self, place)
    end
end


-- Keeps a value that takes `bytes` bytes with its key, unless it is larger than the whole table.
function methods:set(key, value, bytes)
    self:remove(key)
    if bytes > self.most_bytes then
        return
    end
    while self.count >= self.most or self.bytes + bytes > self.most_bytes do
        local count = self.count
        local one = random(count)
        -- Another entry, unless there is only this one.
        local another = count > 1 and (one + random(count - 1) - 1) % count + 1 or one
        remove(self, self.used[one] < self.used[another] and one or another)
        count_cache(self.cache, EVICTION)
    end
    local place = self.count + 1
    self.count, self.bytes, self.uses = place, self.bytes + bytes, self.uses + 1
    self.places[key], self.keys[place], self.values[place] = place, key, value
    self.sizes[place], self.used[place] = bytes, self.uses
end


function methods:clear()
    self.count, self.bytes = 0, 0
    self.places, self.keys, self.values, self.sizes, self.used = {}, {}, {}, {}, {}
end


local meta = { __index = methods }

local M = {}


-- Makes a table. `cache` is the name under which the status counts its evictions.
function M.new(cache, most, most_bytes)
    local new = setmetatable({ cache = cache, most = most, most_bytes = most_bytes, uses = 0 }, meta)
    new:clear()
    return new
end


return M
