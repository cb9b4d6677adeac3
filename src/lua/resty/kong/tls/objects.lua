-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.objects: objects that Rust owns, such as chains and stores. Each is a userdata,
-- which nothing can change; Lua's garbage collector frees it.

local natives = ...

local ffi = require "ffi"
local ctypes = require "resty.kong.tls.ctypes"

local type = type
local error = error
local tostring = tostring
local setmetatable = setmetatable
local ffi_cast = ffi.cast
local ffi_new = ffi.new

-- The C types that other libraries know an object by.
local CTYPES = {
    certificate = ctypes.X509,
    chain = ctypes.STACK_OF_X509,
    key = ctypes.EVP_PKEY,
    store = ctypes.X509_STORE,
}

local BY_OBJECT = { __mode = "k" }

-- The kinds of objects, and their pointers, which own nothing.
local kinds, pointers = setmetatable({}, BY_OBJECT), setmetatable({}, BY_OBJECT)

-- The objects of pointers that other code got, which may outlive its reference to the object.
local owners = setmetatable({}, BY_OBJECT)

local M = {}


-- Returns the kind of an object; nil for any other value.
local function kind_of(value)
    local kind = kinds[value]
    if not kind and type(value) == "userdata" then
        local address
        kind, address = natives.describe(value)
        if kind then
            kinds[value] = kind
            pointers[value] = address and ffi_cast(CTYPES[kind], address)
        end
    end
    return kind
end

M.kind_of = kind_of


-- Returns the pointer of an object; any other value is returned as it is. The pointer is valid
-- while the object is.
local function pointer_of(value)
    if type(value) ~= "userdata" then
        return value
    end
    return pointers[value] or kind_of(value) and pointers[value] or value
end

M.pointer_of = pointer_of


-- Defines the methods of a kind of objects, for the package that makes them. Their fields that are
-- not methods are read by `field`.
function M.class(kind, package, methods, field)
    for name, method in pairs(methods) do
        -- Called with a dot instead of a colon, a method would take its first argument for the
        -- object.
        methods[name] = function(self, ...)
            if kind_of(self) ~= kind then
                error(name .. " must be called with a colon, as a method: " .. kind .. ":" .. name .. "(...)", 2)
            end
            return method(self, ...)
        end
    end

    local function index(self, name)
        local method = methods[name]
        if method then
            return method
        end
        if kind_of(self) ~= kind then
            return nil
        end
        if name == "ctx" and CTYPES[kind] then
            -- A cdata of its own: what other code does not hold any more does not keep the object.
            local pointer = ffi_new(CTYPES[kind], pointer_of(self))
            owners[pointer] = self
            return pointer
        end
        return field and field(self, name)
    end

    local function no_assignment(_, name)
        error("an object of " .. package .. " can't be changed: " .. tostring(name), 2)
    end

    natives.define(kind, package .. " " .. kind, index, no_assignment)
end


-- Returns the chain that `pass_chain` of the functions for requests has kept, as an object.
M.passed_chain = natives.passed_chain


return M
