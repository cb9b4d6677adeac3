-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.testing.values: values that the module's Lua code takes for a cdata or a userdata, and
-- the part of LuaJIT's FFI that it uses.

local getmetatable, newproxy, pairs, setmetatable, type = getmetatable, newproxy, pairs, setmetatable, type

local BY_VALUE = { __mode = "k" }
-- Stand-ins for a cdata: the C type of each, and the object that it points to.
local pointers = setmetatable({}, BY_VALUE)
-- Stand-ins for objects of Rust: the kind of each, and what is known of it.
local objects = setmetatable({}, BY_VALUE)


-- Makes a value that only has an identity. Newer versions of Lua only have tables for that.
local function new_value(metatable)
    if not newproxy then
        return setmetatable({}, metatable)
    end
    local value = newproxy(true)
    for name, method in pairs(metatable) do
        getmetatable(value)[name] = method
    end
    return value
end


-- What ngx.null is.
local NULL = new_value { __tostring = function() return "userdata: NULL" end }


-- Replaces `type` for the module's code.
local function type_of(value)
    if type(value) == "nil" then
        return "nil"
    elseif pointers[value] then
        return "cdata"
    elseif objects[value] or value == NULL then
        return "userdata"
    end
    return type(value)
end


local function new_pointer(ctype, object)
    local pointer = new_value {}
    pointers[pointer] = { ctype = ctype, object = object }
    return pointer
end


local ffi = {}
local ctypes = {}


function ffi.cdef()
end


function ffi.typeof(what)
    if pointers[what] then
        return pointers[what].ctype
    end
    ctypes[what] = ctypes[what] or setmetatable({ declaration = what }, {
        __tostring = function(self)
            return "ctype<" .. self.declaration .. ">"
        end,
    })
    return ctypes[what]
end


-- Makes the frame of arguments, an array of texts, or a copy of a pointer.
function ffi.new(what, value)
    if type(what) == "string" then
        return { texts = { [0] = {}, {} }, numbers = {}, pointers = {}, text = {}, clocks = {} }
    elseif what.declaration:find("[?]", 1, true) then
        local array = {}
        for index = 0, value - 1 do
            array[index] = {}
        end
        return array
    end
    return new_pointer(what, pointers[value].object)
end


function ffi.cast(ctype, value)
    return type(ctype) == "string" and value or new_pointer(ctype, value)
end


function ffi.istype(ctype, value)
    return pointers[value] ~= nil and pointers[value].ctype == ctype
end


function ffi.string(data, length)
    return data:sub(1, length)
end


return {
    NULL = NULL, ffi = ffi, new_value = new_value, objects = objects, pointers = pointers, type_of = type_of,
}
