-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.mistakes: the words of errors about arguments. An error begins with what the
-- argument must be, then says what was given, what to do, and which function was called.

local ffi = require "ffi"
local objects = require "resty.kong.tls.objects"

local type = type
local error = error
local next = next
local pairs = pairs
local rawequal = rawequal
local rawget = rawget
local tostring = tostring
local find = string.find

-- The length up to which a string is shown.
local MAX_SHOWN = 24

local OBJECTS = {
    certificate = "a certificate of resty.kong.x509",
    chain = "a chain of resty.kong.x509",
    key = "a key of resty.kong.x509",
    store = "a store of resty.kong.x509",
    addresses = "addresses of resty.kong.x509",
}

-- What makes an object of each kind of PEM text.
local MAKERS = {
    chain = "resty.kong.x509's x509.chain",
    key = "resty.kong.x509's x509.key",
    store = "resty.kong.x509's x509.store { pem = ... }",
}

local M = {}


-- Returns the name of the C type of a cdata.
local function ctype_of(cdata)
    return tostring(ffi.typeof(cdata)):match("^ctype<(.*)>$")
end


local function is_pem(text)
    return find(text, "-----BEGIN ", 1, true) ~= nil
end


-- Says what a value is. Shows strings only if they are short and plain, since others may hold a
-- key. Calls no metamethod, which might throw or yield.
local function described(value)
    local kind = type(value)
    if kind == "number" and value ~= value then
        return "NaN"
    elseif kind == "nil" or kind == "boolean" or kind == "number" then
        return tostring(value)
    elseif kind == "string" then
        if is_pem(value) then
            return "a string with PEM text"
        elseif #value <= MAX_SHOWN and not find(value, "[^%w ._:/*-]") then
            return "the string \"" .. value .. "\""
        end
        return "a string of " .. #value .. " bytes"
    elseif kind == "cdata" then
        local ctype = ctype_of(value)
        if ctype:find("%*$") and value == nil then
            return "a NULL pointer"
        end
        return "a cdata of type \"" .. ctype .. "\""
    elseif kind == "table" then
        local ctx = rawget(value, "ctx")
        if type(ctx) == "cdata" then
            return "a table with .ctx of type \"" .. ctype_of(ctx) .. "\""
        elseif next(value) == nil then
            return "an empty table"
        end
    elseif kind == "userdata" then
        if value == ngx.null then
            return "ngx.null"
        end
        return OBJECTS[objects.kind_of(value)] or "a userdata"
    end
    return "a " .. kind
end


-- Returns the error about an argument that is not what it must be, in the call of a function that
-- users know as `label`. `owner` is the table that has the function, and is given in place of the
-- first argument in a call with a colon. `remedy` says what to do. All but the first two arguments
-- may be nil.
function M.about(words, value, label, owner, remedy)
    if owner and rawequal(value, owner) then
        return words .. ": called with \":\" in place of \".\": use " .. label .. "(...)"
    end
    return words .. ": given " .. described(value) .. (remedy and " (" .. remedy .. ")" or "")
        .. (label and ": " .. label or "")
end


-- Returns the error about an argument or field that is no list of strings.
function M.about_strings(words, value, label, owner)
    if type(value) == "table" and next(value) ~= nil and not (owner and rawequal(value, owner)) then
        return words .. ": given a table that holds something else: " .. label
    end
    return M.about(words, value, label, owner)
end


-- Throws if a method was called with a dot in place of a colon: then its first argument is no
-- object. All objects of the class have `field`.
function M.check_object(self, field, class, method)
    if type(self) ~= "table" or self[field] == nil then
        error(method .. " must be called with a colon, as a method: " .. class .. ":" .. method .. "(...)", 3)
    end
end


-- Throws an error about an argument or field that is of another type than expected. `level` is that
-- of `error`, seen from the caller.
function M.check_type(name, value, expected, level, label, owner)
    if type(value) ~= expected then
        error(M.about(name .. " must be a " .. expected, value, label, owner), level + 1)
    end
end


-- Says how to get an object of a kind (chain, key, store) from a value that is none. `is_pointer`
-- is the check of a cdata of this kind.
function M.remedy(kind, value, is_pointer)
    local given, object = type(value), objects.kind_of(value)
    if given == "nil" then
        return "does it come from a call that failed?"
    elseif given == "string" and kind ~= "store" then
        return (is_pem(value) and "parse it with " or "parse PEM text with ") .. MAKERS[kind]
    elseif given == "table" and kind ~= "store" and is_pointer(rawget(value, "ctx")) then
        return "pass its .ctx"
    elseif kind == "store" and is_pointer(value) then
        return "pass the object that has it as .ctx"
    elseif kind == "chain" and object == "certificate" then
        return "pass the chain itself, or resty.kong.x509's x509.chain(certificate:to_pem())"
    elseif kind == "store" and given == "string" or object then
        return "make one with " .. MAKERS[kind]
    end
end


-- Returns the error about a name that is none of the keys of `known`. `what` is "option" or "field".
function M.unknown(what, name, known, others)
    local names = {}
    for _, set in pairs { known, others } do
        for one in pairs(set) do
            names[#names + 1] = one
        end
    end
    table.sort(names)
    name = type(name) == "string" and name or described(name)
    return "unknown " .. what .. " \"" .. name .. "\"; " .. what .. "s are " .. table.concat(names, ", ")
end


-- Throws if a table has an option that is none of the keys of `known`, nor of `others`. `level` is
-- that of `error`, seen from the caller; `place` begins the error.
function M.check_options(options, known, level, label, others, place)
    for option in pairs(options) do
        if not known[option] and not (others and others[option]) then
            error((place or "") .. M.unknown("option", option, known, others) .. ": " .. label, level + 1)
        end
    end
end


return M
