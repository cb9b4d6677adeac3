-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.names: host names, as plugins are given them and as clients send them.

local M = {}


-- A name as it is compared. Its case does not matter, and a dot at its end says nothing (RFC 1034,
-- section 3.1).
function M.normalize(name)
    return (name:lower():gsub("%.$", ""))
end


-- A name that a plugin is given: of a host, or "*." and that of a host; normalized, or nil for what is
-- none.
function M.check(name)
    name = M.normalize(name)
    local rest = name:gsub("^%*%.", "")
    if rest:find("^[%w_-]+$")
        or rest:find("^[%w_-][%w._-]*[%w_-]$") and not rest:find("..", 1, true)
    then
        return name
    end
end


-- What a client has sent, for a log.
function M.shown(name)
    return (name:gsub("[^%w._-]", "?"))
end


return M
