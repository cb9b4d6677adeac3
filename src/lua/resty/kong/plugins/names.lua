-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.names: host names in the plugins' options and from clients.

local M = {}


-- Normalizes a name for comparison: in lower case, and without a trailing dot (RFC 1034, section
-- 3.1).
function M.normalize(name)
    return (name:lower():gsub("%.$", ""))
end


-- Normalizes a host name, or "*." and a host name, of a plugin's options. Returns nil if it is not
-- valid.
function M.check(name)
    name = M.normalize(name)
    local rest = name:gsub("^%*%.", "")
    if rest:find("^[%w_-]+$")
        or rest:find("^[%w_-][%w._-]*[%w_-]$") and not rest:find("..", 1, true)
    then
        return name
    end
end


-- Replaces unusual characters in a name that a client has sent, for a log line.
function M.shown(name)
    return (name:gsub("[^%w._-]", "?"))
end


return M
