-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.consumers: whose a verified certificate is. Consumers are in a list, or come
-- from a function that looks them up.

local bounded = require "resty.kong.plugins.bounded"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local semaphore = require "ngx.semaphore"
local values = require "resty.kong.tls.values"
require "resty.kong.x509"

local type = type
local next = next
local pairs = pairs
local pcall = pcall
local ipairs = ipairs
local tostring = tostring
local setmetatable = setmetatable
local timer_at = ngx.timer.at
local clocks, count_cache = functions.clocks, functions.count_cache
local is_given, is_list_of_strings = values.is_given, values.is_list_of_strings

local M = {}

-- ---- texts --------------------------------------------------------------------------------------

-- Joins texts to one, which tells where each of them ends.
function M.pack(texts)
    local parts = {}
    for index, text in ipairs(texts) do
        parts[index] = #text .. ":" .. text
    end
    return table.concat(parts)
end


-- Returns the texts that `pack` has joined.
function M.unpack(packed)
    local texts, from = {}, 1
    while from <= #packed do
        local length, first = packed:match("^(%d+):()", from)
        from = first + length
        texts[#texts + 1] = packed:sub(first, from - 1)
    end
    return texts
end


local function percent(byte)
    return ("%%%02X"):format(byte:byte())
end


local function spaces(text)
    return ("%20"):rep(#text)
end


-- Encodes a text as an element of a list in a header: "%" and ",", all bytes that are not of ASCII or
-- that control something, and spaces at both ends. So it can't be taken for several, or for another.
function M.element(text)
    return (text:gsub("[^ -$&-+--~]", percent):gsub("^ +", spaces):gsub(" +$", spaces))
end


-- Encodes a list of texts as the value of a header.
function M.elements(texts)
    local parts = {}
    for index, text in ipairs(texts) do
        parts[index] = M.element(text)
    end
    return table.concat(parts, ", ")
end


-- Says what a value is that another's function has thrown or returned. Calls no metamethod.
local function said(value)
    local kind = type(value)
    if kind ~= "string" and kind ~= "number" then
        return kind == "nil" and "nil" or "a " .. kind
    end
    return (tostring(value):sub(1, 1024):gsub("%c", " "))
end

-- ---- a consumer ---------------------------------------------------------------------------------

-- The functions below normalize the values that identify a consumer.
local function exact(text)
    return text
end

-- Hexadecimal digits, optionally with colons between pairs.
local function hexadecimal(text)
    local pairs_of_digits = text:lower() .. ":"
    if pairs_of_digits:gsub("%x%x:", "") == "" then
        return (pairs_of_digits:gsub(":", ""))
    end
    return text:lower()
end

-- The part before the "@" is only for its own server to compare (RFC 5321, section 2.4).
local function email(text)
    local mailbox, host = text:match("^(.*)@([^@]*)$")
    return mailbox and mailbox .. "@" .. host:lower() or text
end

-- What a consumer may be known by.
local FIELDS = {
    fingerprint = hexadecimal,
    dns = string.lower,
    email = email,
    uri = exact,
    common_name = exact,
}

-- What else a consumer may have.
local ABOUT = { name = true, username = true, id = true, custom_id = true, groups = true, ca_certificate = true }

-- The names in a certificate, in the order in which they count.
local NAMES = { "uri", "dns", "email" }

-- What `consumer_by` may list, and the field of a record that it stands for.
local BY = { username = "username", custom_id = "custom_id" }


local function is_fingerprint(text)
    return #text == 64 and text:find("^%x+$") ~= nil
end


-- Returns nil if a text can be the value of a header, and is read as it was written; or why not.
local function objection_to(text)
    if text:find("%c") or text:find("^ ") or text:find(" $") then
        return "has a control character, or begins or ends with a space"
    end
end


-- Returns the SHA-256 of the certificate that a consumer is pinned to, or nil and what is wrong.
local function pin_of(text)
    local digest = hexadecimal(text)
    if is_fingerprint(digest) then
        return digest
    end
    local chain, err = functions.unnoted.chain(text)
    if not chain then
        return nil, "ca_certificate: " .. err
    elseif chain:count() ~= 1 then
        return nil, "ca_certificate must be one certificate"
    end
    digest, err = chain[1]:fingerprint()
    return digest, err and "ca_certificate: " .. err
end


-- Returns a consumer of our own: of a table that is somebody else's, and that may say something else
-- each time that it is read. Returns nil and what is wrong if it is not right.
local function record_of(given)
    local name, username = given.name, given.username
    if is_given(name) and is_given(username) then
        return nil, "name and username are one field: give one of both"
    elseif is_given(username) then
        name = username
    end
    if type(name) ~= "string" or name == "" then
        return nil, "name must be a string"
    end
    local record = { username = name, groups = {} }
    for _, field in ipairs { "id", "custom_id", "ca_certificate" } do
        local value = given[field]
        if is_given(value) then
            if type(value) ~= "string" or value == "" then
                return nil, field .. " must be a string"
            end
            record[field] = value
        end
    end
    for _, field in ipairs { "username", "id", "custom_id" } do
        local objection = record[field] and objection_to(record[field])
        if objection then
            return nil, (field == "username" and "name" or field) .. " " .. objection
        end
    end
    local groups = given.groups
    if is_given(groups) then
        if not is_list_of_strings(groups) then
            return nil, "groups must be a list of strings"
        end
        for index, group in ipairs(groups) do
            local objection = group == "" and "is empty" or group:find(",", 1, true) and "has a comma" or objection_to(group)
            if objection then
                return nil, "group " .. index .. " " .. objection
            end
            record.groups[index] = group
        end
    end
    if record.ca_certificate then
        local err
        record.pin, err = pin_of(record.ca_certificate)
        if not record.pin then
            return nil, err
        end
        record.ca_certificate = nil
    end
    record.text = M.pack { record.username, record.id or "", record.custom_id or "", M.pack(record.groups), record.pin or "" }
    return record
end


-- Returns a consumer that an option names: by a name, or by a table. Returns nil and what is wrong if
-- it is not right.
function M.named(given)
    if type(given) == "string" then
        given = { name = given }
    elseif type(given) ~= "table" then
        return nil, "must be a string or a table"
    end
    for field in pairs(given) do
        if not ABOUT[field] or field == "ca_certificate" then
            return nil, "unknown field \"" .. said(field) .. "\"; fields are custom_id, groups, id, name, username"
        end
    end
    return record_of(given)
end

-- ---- consumers in a list ------------------------------------------------------------------------

local list_methods = {}


-- Adds a consumer to those with this value. Returns nil if it is there already, which it may be if
-- `again`; or true, or false if the value is that of another consumer.
local function add(by_value, value, record, again)
    local others = by_value[value]
    if not others then
        by_value[value] = { record }
        return true
    end
    for _, other in ipairs(others) do
        if again and other.text == record.text then
            return nil
        elseif not other.pin or not record.pin or other.pin == record.pin then
            return false
        end
    end
    others[#others + 1] = record
    return true
end


-- Returns the consumer among these to which a verified chain belongs; `chain` are the fingerprints of
-- its certificates, the leaf first. If several are pinned to certificates of the chain, then the one
-- that is pinned to the certificate next to the leaf.
local function choose(records, chain)
    if not records or not records[1].pin then
        return records and records[1]
    end
    for _, fingerprint in ipairs(chain) do
        for _, record in ipairs(records) do
            if record.pin == fingerprint then
                return record
            end
        end
    end
end


-- Returns the consumer of a certificate: by its fingerprint, else by an alternative name, else, if
-- it has no alternative names, by the common name of its subject (RFC 6125, section 6.4.4). `chain`
-- are the fingerprints of its verified chain. A field that can't be read is an error: the next one
-- could identify a different consumer.
function list_methods:find(certificate, chain)
    local found = choose(self.known.fingerprint[chain[1]], chain)
    if found then
        return found
    end
    local sans = certificate.sans
    if not sans then
        return nil, "its alternative names can't be read"
    end
    local common_name
    if #sans.uri + #sans.dns + #sans.email + #sans.ip == 0 then
        common_name = certificate.common_name
    end
    for _, known in ipairs(self.ways) do
        if common_name then
            found = choose(known.common_name[common_name], chain)
            if found then
                return found
            end
        end
        for _, kind in ipairs(NAMES) do
            for _, name in ipairs(sans[kind]) do
                found = choose(known[kind][FIELDS[kind](name)], chain)
                if found then
                    return found
                end
            end
        end
    end
end


local list_meta = { __index = list_methods }


local function by_field()
    local known = {}
    for field in pairs(FIELDS) do
        known[field] = {}
    end
    return known
end


-- Makes consumers of a list of tables; `by` lists what their names may be compared with, beside what
-- each says itself. Returns nil and an error if they can't be used.
function M.list(given, by)
    local known = by_field()
    local self = setmetatable({ known = known, ways = { known }, records = {}, is_pinned = false }, list_meta)
    local texts = {}
    for _, field in ipairs(by) do
        self.ways[#self.ways + 1] = by_field()
        texts[#texts + 1] = "by " .. field
    end
    for index, consumer in ipairs(given) do
        local place = "consumer " .. index .. ": "
        local record, err
        if type(consumer) == "table" then
            record, err = record_of(consumer)
        else
            err = "name must be a string"
        end
        if not record then
            return nil, place .. err
        end
        record.number = index
        self.records[index] = record
        texts[#texts + 1] = index .. " " .. record.text
        self.is_pinned = self.is_pinned or record.pin ~= nil
        local fields = 0
        for field, value in pairs(consumer) do
            local normalize = FIELDS[field]
            if not normalize and not ABOUT[field] then
                return nil, place .. mistakes.unknown("field", field, FIELDS, ABOUT)
            elseif normalize then
                if type(value) ~= "string" or value == "" then
                    return nil, place .. field .. " must be a string"
                end
                value = normalize(value)
                if field == "fingerprint" and not is_fingerprint(value) then
                    return nil, place .. "fingerprint must be that of SHA-256, in hexadecimal"
                end
                fields = fields + 1
                if not add(known[field], value, record) then
                    return nil, place .. field .. " is that of another consumer"
                end
                texts[#texts + 1] = M.pack { field, value, tostring(index) }
            end
        end
        for number, field in ipairs(by) do
            local value = record[BY[field]]
            for kind, normalize in pairs(value and FIELDS or {}) do
                if kind ~= "fingerprint" and add(self.ways[number + 1][kind], normalize(value), record, true) == false then
                    return nil, place .. field .. " is that of another consumer"
                end
            end
            fields = fields + (value and 1 or 0)
        end
        if fields == 0 then
            return nil, place .. "it has nothing to be known by"
        end
    end
    table.sort(texts)
    self.text = M.pack(texts)
    return self
end

-- ---- consumers that a function looks up ---------------------------------------------------------

-- For which answers there is room in a worker; BYTES limits the size of their texts. Certificates that
-- are nobody's can't evict the others.
local CACHE = "consumers"
local FOUND, NOBODY, BYTES = 16384, 4096, 8 * 1024 * 1024
-- The estimated size of an entry besides its texts, in bytes.
local ENTRY = 500

local found_answers = bounded.new(CACHE, FOUND, BYTES)
local nobodys = bounded.new(CACHE, NOBODY, BYTES)

-- How many calls a worker makes at a time; others wait for their turn. Each is in a timer, of which
-- nginx has lua_max_running_timers, 256 by default.
local AT_A_TIME = 64

-- How long a request waits for an answer, in seconds.
M.PATIENCE = 60

-- The calls that wait for their turn, and the number of those that run.
local queue = { first = 1, last = 0 }
local running = 0

local lookup_methods = {}

local begin_calls


-- Ends a call, for all who wait for it, with its answer: a consumer, or nil; or an error.
local function finish(call, record, err)
    if call.is_ended then
        return
    end
    local owner, key = call.owner, call.key
    call.is_ended, call.record, call.err = true, record, err
    owner.calls[key] = nil
    if not err then
        local cache, other = found_answers, nobodys
        if not record then
            cache, other = nobodys, found_answers
        end
        other:remove(key)
        -- Data may be as old as the beginning of the call.
        local entry = { record = record, since = call.since, life = record and owner.life or owner.negative_life }
        cache:set(key, entry, ENTRY + #key + (record and #record.text or 0))
    end
    if call.waiting > 0 then
        call.semaphore:post(call.waiting)
    end
    if call.is_running then
        running = running - 1
        begin_calls()
    end
end


-- Reads the answer of the function: what it says may be anything, and may throw.
local function ask(lookup, certificate)
    local answer, err = lookup(certificate)
    if is_given(err) then
        return nil, said(err)
    elseif not is_given(answer) then
        return nil
    elseif type(answer) ~= "table" then
        return nil, "it must return a table or nil: given a " .. type(answer)
    end
    local record
    record, err = record_of(answer)
    return record, err and "its answer: " .. err
end


local function run(_, call)
    if call.is_ended then
        return
    end
    call.since = clocks()
    local ok, record, err = pcall(ask, call.owner.call, call.certificate)
    if not ok then
        record, err = nil, "it threw: " .. said(record)
    end
    finish(call, record, err)
end


function begin_calls()
    while running < AT_A_TIME and queue.first <= queue.last do
        local call = queue[queue.first]
        queue[queue.first] = nil
        queue.first = queue.first + 1
        if not call.is_ended then
            -- Not in the request, which may end before others have the answer, or may be let in by
            -- ngx.exit.
            local ok, err = timer_at(0, run, call)
            if ok then
                call.is_running = true
                running = running + 1
            else
                finish(call, nil, "ngx.timer: " .. said(err))
            end
        end
    end
end


-- Waits for the end of a call; nobody waits for ever.
local function wait(call)
    call.waiting = call.waiting + 1
    while not call.is_ended do
        local left = call.deadline - clocks()
        if left <= 0 then
            -- Another call may begin.
            finish(call, nil, "it has not answered within " .. M.PATIENCE .. " seconds")
            break
        end
        local ok, err = call.semaphore:wait(left / 1000)
        if not ok and err ~= "timeout" then
            call.waiting = call.waiting - 1
            return nil, "ngx.semaphore: " .. said(err)
        end
    end
    return call.record, call.err
end


-- Returns the consumer of a certificate, or nil if it is nobody's, or nil and an error. `make` returns
-- the certificate, whose fingerprint is given.
function lookup_methods:find(fingerprint, make)
    local key = self.prefix .. fingerprint
    local now = clocks()
    local entry = found_answers:get(key) or nobodys:get(key)
    if entry and now - entry.since < entry.life then
        count_cache(CACHE, functions.HIT)
        return entry.record
    end
    count_cache(CACHE, functions.MISS)
    local call = self.calls[key]
    if not call then
        local certificate, err = make()
        if not certificate then
            return nil, err
        end
        local signal
        signal, err = semaphore.new(0)
        if not signal then
            return nil, "ngx.semaphore: " .. said(err)
        end
        call = {
            owner = self, key = key, certificate = certificate, semaphore = signal, waiting = 0,
            deadline = now + M.PATIENCE * 1000,
        }
        self.calls[key] = call
        queue.last = queue.last + 1
        queue[queue.last] = call
        begin_calls()
    end
    return wait(call)
end


local lookup_meta = { __index = lookup_methods }

-- The number of lookups that were made: none has another's answers.
local made = 0


-- Makes consumers of a function; the others are how long its answers count, in seconds.
function M.lookup(call, cache_ttl, negative_ttl)
    made = made + 1
    return setmetatable({
        call = call, prefix = made .. " ", calls = {}, life = cache_ttl * 1000, negative_life = negative_ttl * 1000,
    }, lookup_meta)
end


-- Returns whether a consumer may have this verified chain.
function M.may_have(record, chain)
    return record ~= nil and choose({ record }, chain) ~= nil
end


-- Returns nil if a value can be that of `consumer_by`, or what is wrong with it.
function M.wrong_by(by)
    if not is_list_of_strings(by) or next(by) == nil then
        return "consumer_by must be a list of \"username\" and \"custom_id\""
    end
    for _, field in ipairs(by) do
        if not BY[field] then
            return "consumer_by must be a list of \"username\" and \"custom_id\""
        end
    end
end


return M
