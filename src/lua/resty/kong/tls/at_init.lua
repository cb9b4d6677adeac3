-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.at_init: what init_by_lua* has made. Nothing but that can tell whether the next
-- configuration asks clients for their certificates alike.

local natives = ...

local get_request = require("resty.core.base").get_request

local next = next
local rawequal = rawequal
local setmetatable = setmetatable
local note, note_text = natives.note, natives.note_text

local LOADED = package.loaded

-- The packages that were loaded at the end of init_by_lua*; empty before that, and where what was
-- loaded can't be told.
local loaded = natives.loaded

-- The objects that were made during init_by_lua*, and that their content tells all about.
local made = setmetatable({}, { __mode = "k" })

-- Whether Lua code has loaded anything since.
local is_changed = false

local M = {}


local function is_now()
    return get_request() == nil and next(loaded) == nil
end


-- Notes an object if it is made during init_by_lua*. Returns its arguments.
function M.object(object, err)
    if object and is_now() and note(object) then
        made[object] = true
    end
    return object, err
end


-- Notes a text that decides which clients are asked, or with what.
function M.text(text)
    if is_now() then
        note_text(text)
    end
end


-- Returns whether nothing but what was there at the end of init_by_lua* can decide how a client is
-- asked with this object, which may be nil.
function M.tells(object)
    if is_changed or next(loaded) == nil or object ~= nil and not made[object] then
        return false
    end
    for name, value in next, LOADED do
        if not rawequal(loaded[name], value) then
            is_changed = true
            return false
        end
    end
    return true
end


return M
