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

-- The stores whose files are read again: for each, the `store` that it is now, and its `number`.
local refreshed = setmetatable({}, BY_OBJECT)

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
            refreshed[value] = not address and kind == "store" and {} or nil
        end
    end
    return kind
end

M.kind_of = kind_of


-- Returns the store that an object is now, and its number, if it is a store whose files are read
-- again, after a look at them if that is due. Any other value is returned as it is.
local function current(value)
    local state = kind_of(value) == "store" and refreshed[value]
    if not state then
        return value
    end
    local number, store = natives.current_store(value, state.number)
    if not number then
        -- An error: without the store that it is now, it is none.
        return nil
    elseif store then
        state.number, state.store = number, store
    end
    return state.store, number
end

M.current = current


-- Returns the pointer of an object; any other value is returned as it is. The pointer is valid while
-- the object is, and no longer than until the next call with the same store, if its files are read
-- again: `current` makes an object of which it lasts.
local function pointer_of(value)
    if type(value) ~= "userdata" then
        return value
    end
    local pointer = pointers[value]
    if not pointer then
        local object = current(value)
        pointer = kind_of(object) and pointers[object]
    end
    return pointer or value
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
            local owner = current(self)
            local pointer = owner and ffi_new(CTYPES[kind], pointer_of(owner))
            if pointer then
                owners[pointer] = owner
            end
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
