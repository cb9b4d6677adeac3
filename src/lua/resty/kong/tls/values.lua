-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.values: checks of values.

local type = type
local ipairs = ipairs
local pairs = pairs

local M = {}


-- Returns whether an argument or field is given. A NULL cdata counts as given, although LuaJIT
-- treats it as equal to nil: it is a wrong value.
function M.is_given(value)
    return type(value) ~= "nil"
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


-- Returns whether a value is a list of strings without holes.
function M.is_list_of_strings(value)
    if not M.is_list(value) then
        return false
    end
    for _, text in ipairs(value) do
        if type(text) ~= "string" then
            return false
        end
    end
    return true
end


return M
