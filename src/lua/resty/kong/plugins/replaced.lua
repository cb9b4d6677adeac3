-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.replaced: options of a plugin that are replaced at run time, in all workers.
--
-- What replaces them is a text in a lua_shared_dict, under a number. Each worker looks at the number
-- for each request and handshake, and reads the text if the number is new. Both belong to the options
-- that the plugin was made with: a worker that is started later, or after a reload, with the same
-- options of the configuration, takes what has replaced them; with others, it takes those.

local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local is_given = require("resty.kong.tls.values").is_given

local type = type
local next = next
local error = error
local pcall = pcall
local tonumber = tonumber
local tostring = tostring
local rawequal = rawequal

-- The number of options that were never replaced.
local NEVER = 0

-- How deep tables may be in one another: a table that is in itself has no end.
local MAX_DEPTH = 16

-- How long a worker does not try again to use what it could not use, in milliseconds.
local PAUSE = 1000

-- How long a worker that has died may keep others from replacing, in seconds.
local LOCK = 10

local M = {}

-- ---- values as texts ----------------------------------------------------------------------------

local encode


local function encode_table(value, any, depth, place)
    if depth > MAX_DEPTH then
        return nil, place .. ": tables are too deep in one another"
    end
    local parts = {}
    for key, one in next, value do
        local here = place .. (type(key) == "string" and "." .. key or "[" .. tostring(key) .. "]")
        local first, err = encode(key, any, depth, place)
        local second
        if first then
            second, err = encode(one, any, depth, here)
        end
        if not second then
            return nil, err
        end
        parts[#parts + 1] = first .. second
    end
    -- In an order that is the same in all workers.
    table.sort(parts)
    return "{" .. table.concat(parts) .. "}"
end


-- Returns a value as a text. A value that no text can stand for is an error, unless `any` is a table: it
-- then has that value under its place.
function encode(value, any, depth, place)
    local kind = type(value)
    if kind == "string" then
        return "s" .. #value .. ":" .. value
    elseif kind == "number" then
        return ("n%.17g;"):format(value)
    elseif kind == "boolean" then
        return value and "t" or "f"
    elseif kind == "table" then
        return encode_table(value, any, depth + 1, place)
    elseif any then
        any[place] = value
        return "x"
    end
    return nil, place .. " is a " .. kind .. ", which can't be sent to other workers"
end


-- Returns the value that begins in a text at a place, and the place after it.
local function decode(text, at)
    local kind = text:sub(at, at)
    if kind == "s" then
        local length, from = text:match("^(%d+):()", at + 1)
        return text:sub(from, from + length - 1), from + length
    elseif kind == "n" then
        local number, from = text:match("^([^;]*);()", at + 1)
        return tonumber(number), from
    elseif kind == "t" or kind == "f" then
        return kind == "t", at + 1
    end
    local value = {}
    at = at + 1
    while text:sub(at, at) ~= "}" do
        local key, after = decode(text, at)
        value[key], at = decode(text, after)
    end
    return value, at + 1
end

-- Returns whether two tables have the same fields.
local function is_same(one, other)
    for key, value in next, one do
        if not rawequal(value, other[key]) then
            return false
        end
    end
    for key in next, other do
        if one[key] == nil then
            return false
        end
    end
    return true
end

-- ---- the dict -----------------------------------------------------------------------------------

-- Returns the key of the text with this number.
local function text_key(shared, number)
    return ("%s %.0f"):format(shared.text_key, number)
end


-- The values of options that no text stands for, such as functions, by the dict and what the texts say.
local others_of = {}


-- Prepares a plugin for `replace`, if `options` name a dict. `about` has `class`, its name; `given`,
-- the options that it was made with; `built`, a function that makes its fields of such options; `use`,
-- a function that puts these into effect; and `label`, for errors. Returns true, or nil and an error.
function M.prepare(self, options, known, about)
    if not is_given(options) then
        return true
    end
    mistakes.check_type("options", options, "table", 3, about.label)
    mistakes.check_options(options, known, 3, about.label)
    local name = options.dict
    if not is_given(name) then
        return true
    elseif type(name) ~= "string" then
        error(mistakes.about("dict must be the name of a lua_shared_dict", name, about.label), 3)
    end
    local dict = ngx.shared[name]
    if not dict then
        return nil, "there is no lua_shared_dict \"" .. name .. "\""
    end
    local others = {}
    local given, wrong = encode(about.given, others, 0, "")
    if not given then
        return nil, wrong
    end
    local digest = functions.policy_digest(about.class .. given)
    local place = name .. " " .. digest
    if others_of[place] and not is_same(others_of[place], others) then
        return nil, "lua_shared_dict \"" .. name .. "\": other options for it differ from these in functions only, so that "
            .. "replace would replace both: use another dict"
    end
    local shared = {
        name = name, dict = dict, number = NEVER, about = about,
        number_key = "number " .. digest, text_key = "text " .. digest, lock_key = "lock " .. digest,
    }
    -- Added now, while there is room: to change it later needs no memory.
    local ok, err = dict:safe_add(shared.number_key, NEVER)
    if not ok and err ~= "exists" then
        return nil, "lua_shared_dict \"" .. name .. "\": " .. err
    end
    others_of[place] = others
    self.shared = shared
    return true
end


-- Calls the function that makes the fields of a plugin. Returns nil and an error also if it throws.
local function build(about, options)
    local ok, fields, err = pcall(about.built, options)
    if not ok then
        -- Without the place in this module's code.
        return nil, (tostring(fields):gsub("^%[string \"[^\"]*\"%]:%d+: ", ""))
    end
    return fields, err
end


-- Reads what has replaced the options. Returns its number and its fields, or the number, nil and an
-- error.
local function read(shared, number)
    local dict = shared.dict
    -- It may be replaced once more meanwhile, which removes the text.
    for _ = 1, 8 do
        local text = number and dict:get(text_key(shared, number))
        if text then
            return number, build(shared.about, (decode(text, 1)))
        end
        local now = dict:get(shared.number_key)
        if now == number then
            break
        end
        number = now
    end
    return number, nil, "they are missing in it: is it too small, or was it emptied?"
end


-- Throws the error of options that can't be used in this worker: without them, nobody is let in.
local function fail(shared)
    error(shared.about.class .. ": lua_shared_dict \"" .. shared.name .. "\": options that were replaced: "
          .. shared.failure, 0)
end


-- Puts into effect what another worker has replaced. To be called first for each request and
-- handshake. Throws if that can't be used.
function M.follow(self)
    local shared = self.shared
    if not shared then
        return
    end
    local number = shared.dict:get(shared.number_key)
    if number == shared.number then
        return
    end
    local now = functions.clocks()
    if shared.failure and number == shared.failed and now - shared.since < PAUSE then
        fail(shared)
    end
    local fields, err
    number, fields, err = read(shared, number)
    if not fields then
        shared.failure, shared.failed, shared.since = err, number, now
        fail(shared)
    end
    shared.number, shared.failure = number, nil
    shared.about.use(self, fields)
end


-- Puts a text into the dict under a new number, and removes that of the number before. Returns the
-- number; or nil and an error, and nothing changes.
local function publish(shared, text)
    local dict = shared.dict
    local before = dict:get(shared.number_key)
    ngx.update_time()
    -- Greater than any before, even if the dict was emptied.
    local number = math.max((before or NEVER) + 1, math.floor(ngx.now() * 1000) * 1024)
    local ok, err = dict:safe_set(text_key(shared, number), text)
    if ok then
        ok, err = dict:safe_set(shared.number_key, number)
        if not ok then
            dict:delete(text_key(shared, number))
        end
    end
    if not ok then
        return nil, "lua_shared_dict \"" .. shared.name .. "\": " .. err
    end
    if before then
        dict:delete(text_key(shared, before))
    end
    return number
end


-- Replaces all options of a plugin, in all workers. Returns true; or nil and an error, and nothing
-- changes anywhere.
function M.replace(self, options)
    local shared = self.shared
    if not shared then
        return nil, "without the option dict, other workers would not know"
    end
    if type(options) ~= "table" then
        return nil, mistakes.about("options must be a table", options)
    end
    local text, err = encode(options, false, 0, "options")
    if not text then
        return nil, err
    end
    -- Made of the text, as other workers make it.
    local fields
    fields, err = build(shared.about, (decode(text, 1)))
    if not fields then
        return nil, err
    end
    local ok
    ok, err = shared.dict:safe_add(shared.lock_key, true, LOCK)
    if not ok then
        return nil, err == "exists" and "another worker is replacing them" or "lua_shared_dict \"" .. shared.name .. "\": " .. err
    end
    local number
    number, err = publish(shared, text)
    shared.dict:delete(shared.lock_key)
    if not number then
        return nil, err
    end
    shared.number, shared.failure = number, nil
    shared.about.use(self, fields)
    return true
end


return M
