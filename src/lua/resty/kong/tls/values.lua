-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.values: what values are, beyond their type.

local type = type
local pairs = pairs

local M = {}


-- Whether there is an argument, or a field. A NULL, which LuaJIT takes for equal to nil, is one: a wrong one.
function M.is_given(value)
    return type(value) ~= "nil"
end


-- Whether a table is a list, without holes.
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
