-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.values: checks of values.

local type = type
local error = error
local pairs = pairs

local M = {}


-- Returns whether an argument or field is given. A NULL cdata counts as given, although LuaJIT
-- treats it as equal to nil: it is a wrong value.
function M.is_given(value)
    return type(value) ~= "nil"
end


-- Throws an error about an argument or field that is of another type than expected. `level` is that
-- of `error`, seen from the caller.
function M.check_type(name, value, expected, level)
    if type(value) ~= expected then
        error(name .. " must be a " .. expected, level + 1)
    end
end


-- Returns whether a value is a list without holes.
function M.is_list(value)
    if type(value) ~= "table" then
        return false
    end
    local count = 0
    for _ in pairs(value) do
        count = count + 1
    end
    return count == #value
end


return M
