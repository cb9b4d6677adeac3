-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.testing.checks: the checks of values that the module does in Rust, in the same words.

local tonumber = tonumber

local ESCAPES = { ["\t"] = "\\t", ["\r"] = "\\r", ["\n"] = "\\n", ["'"] = "\\'", ["\""] = "\\\"", ["\\"] = "\\\\" }


local function escaped(text)
    return (text:gsub("[%c\127-\255'\"\\]", function(byte)
        return ESCAPES[byte] or ("\\x%02x"):format(byte:byte())
    end))
end


local function printed(number)
    if number ~= number then
        return "NaN"
    elseif number == 1 / 0 or number == -1 / 0 then
        return number > 0 and "inf" or "-inf"
    end
    return (number % 1 == 0 and "%.0f" or "%.14g"):format(number)
end


-- Returns what is wrong with an integer, or nil.
local function not_integer(name, number, least, greatest)
    if number ~= number or number - number == 0 and number % 1 ~= 0 then
        return name .. " must be an integer: given " .. printed(number)
    elseif number < least or number > greatest then
        return ("%s must be an integer between %d and %d: given %s"):format(name, least, greatest, printed(number))
    end
end


local function is_ipv4(text)
    local count = 0
    for part in (text .. "."):gmatch("(.-)%.") do
        count = count + 1
        if not part:find("^%d%d?%d?$") or part:find("^0%d") or tonumber(part) > 255 then
            return false
        end
    end
    return count == 4
end


-- Returns the number of groups of an IPv6 address in a text; nil if there is anything else in it.
local function count_groups(text)
    if text == "" then
        return 0
    end
    local count = 0
    for group in (text .. ":"):gmatch("(.-):") do
        if not group:find("^%x%x?%x?%x?$") then
            return nil
        end
        count = count + 1
    end
    return count
end


local function is_ipv6(text)
    local before, ipv4 = text:match("^(.*:)([^:]*%.[^:]*)$")
    if ipv4 then
        if not is_ipv4(ipv4) then
            return false
        end
        text = before .. "0:0"
    end
    local left, right = text:match("^(.-)::(.*)$")
    if not left then
        return count_groups(text) == 8
    end
    left, right = count_groups(left), count_groups(right)
    return left ~= nil and right ~= nil and left + right <= 7
end


local function is_ip(text)
    return is_ipv4(text) or is_ipv6(text)
end


-- Returns the form of a target in a URL; nil and an error if nginx would not take it for exactly
-- this host and port.
local function target_of(given, port)
    local host = given:gsub("%.$", "")
    if #host > 255 then
        return nil, "host must not be longer than 255 bytes: given " .. #host
    end
    local address = host:match("^%[(.*)%]$") or host
    if is_ipv6(address) then
        host = "[" .. address .. "]"
    elseif not host:find("^[%w._-]+$") or host:find("%.$") or host:lower() == "unix" then
        return nil, "host must be a host name or an IP address: given \"" .. escaped(given) .. "\""
    else
        local last = host:match("[^.]*$")
        if (last:find("^%d+$") or last:find("^0[xX]%x*$")) and not is_ipv4(host) then
            return nil, "host must be an IPv4 address of four decimal numbers: given \"" .. escaped(given) .. "\""
        end
    end
    local mistake = not_integer("port", port, 0, 65535)
    if mistake then
        return nil, mistake
    end
    return host .. ":" .. printed(port)
end


local function is_host(name)
    for label in (name .. "."):gmatch("(.-)%.") do
        if not label:find("^[%w_-]+$") then
            return false
        end
    end
    return #name <= 253
end


return {
    escaped = escaped, is_host = is_host, is_ip = is_ip, not_integer = not_integer, printed = printed,
    target_of = target_of,
}
