-- resty.kong.plugins.bounded: a table that holds so many entries, of so many bytes, and no more.
--
-- Who comes when it is full takes the place of any other, and not of the one that was used longest ago: of entries
-- that take turns, with one more than there is room for, that would be the next one, each time.

local random = math.random
local setmetatable = setmetatable

local methods = {}


function methods:get(key)
    local place = self.places[key]
    return place and self.values[place]
end


local function remove(self, place)
    local places, keys, values, sizes = self.places, self.keys, self.values, self.sizes
    local last = self.count
    self.bytes = self.bytes - sizes[place]
    places[keys[place]] = nil
    if place ~= last then
        keys[place], values[place], sizes[place] = keys[last], values[last], sizes[last]
        places[keys[place]] = place
    end
    keys[last], values[last], sizes[last] = nil, nil, nil
    self.count = last - 1
end


function methods:remove(key)
    local place = self.places[key]
    if place then
        remove(self, place)
    end
end


-- Keeps a value that takes so many bytes with its key, if there could be room for it.
function methods:set(key, value, bytes)
    self:remove(key)
    if bytes > self.most_bytes then
        return
    end
    while self.count >= self.most or self.bytes + bytes > self.most_bytes do
        remove(self, random(self.count))
        self.evicted = self.evicted + 1
    end
    local place = self.count + 1
    self.count, self.bytes = place, self.bytes + bytes
    self.places[key], self.keys[place], self.values[place], self.sizes[place] = place, key, value, bytes
end


function methods:clear()
    self.count, self.bytes = 0, 0
    self.places, self.keys, self.values, self.sizes = {}, {}, {}, {}
end


local meta = { __index = methods }

local M = {}


function M.new(most, most_bytes)
    return setmetatable({
        most = most, most_bytes = most_bytes, count = 0, bytes = 0, evicted = 0,
        -- By a key its place, and by the place the rest.
        places = {}, keys = {}, values = {}, sizes = {},
    }, meta)
end


return M
