-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.recording: fields of ngx.ctx that are read from the connection to the service. In a phase in which
-- there may be no answer of the service yet, they have no values.

local pairs = pairs
local type = type
local get_phase = ngx.get_phase
local getmetatable, setmetatable = debug.getmetatable, debug.setmetatable

local HAS_ANSWER = { header_filter = true, body_filter = true, log = true }

local M = {}

-- The metatables made here: for tables that had none, and for others.
local common
local made = {}
setmetatable(made, { __mode = "k" })


-- Returns a metatable like `original`, which may be nil, with these fields.
local function with_fields(original, fields)
    local metatable = {}
    for name, value in pairs(original or {}) do
        metatable[name] = value
    end
    local index = metatable.__index
    function metatable.__index(ctx, name)
        local read = fields[name]
        if read then
            if HAS_ANSWER[get_phase()] then
                return read()
            end
            return nil
        end
        if type(index) == "function" then
            return index(ctx, name)
        end
        return index and index[name]
    end
    made[metatable] = true
    return metatable
end


-- Adds fields to ngx.ctx: `fields` has a function for each, which is called when it is read. A field
-- that is set otherwise stays as it is.
function M.add(ctx, fields)
    local original = getmetatable(ctx)
    if not original then
        common = common or with_fields(nil, fields)
        setmetatable(ctx, common)
    elseif not made[original] then
        setmetatable(ctx, with_fields(original, fields))
    end
end


return M
