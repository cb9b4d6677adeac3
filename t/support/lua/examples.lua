-- SPDX-License-Identifier: Apache-2.0

-- Executes the examples of the reference: Lua code in which a line "--> text" has what the statement above it returns,
-- or the error that it throws after "throws: ".

local M = {}

-- The global variables of all examples.
local globals = setmetatable({}, { __index = _G })


local function read(name)
    local file = assert(io.open(name))
    local text = file:read("*a")
    file:close()
    return text
end


local function load_text(text, name, variables)
    -- A later statement may use the local variables of an earlier one.
    local code = text:gsub("^local (%l)", "%1"):gsub("\nlocal (%l)", "\n%1")
    -- What is returned: the only expression, or that of the last line, or nothing.
    local before, last = code:match("^(.*\n)([^\n]+)$")
    local chunk = loadstring("return " .. code, name)
                  or last and loadstring(before .. "return " .. last, name)
    local err
    if not chunk then
        chunk, err = loadstring(code, name)
    end
    if not chunk then
        error(err .. " in: " .. text, 0)
    end
    return setfenv(chunk, variables)
end


local function shown(ok, ...)
    local values = {}
    for i = 1, select("#", ...) do
        values[i] = tostring((select(i, ...)))
    end
    -- A function may return `true, nil`.
    while #values > 1 and values[#values] == "nil" do
        values[#values] = nil
    end
    local text = table.concat(values, ", ")
    -- Without the place of the error.
    return ok and text or "throws: " .. text:gsub("^=?example:%d+: ", "")
end


-- Returns whether a result is what the example says, which may end with "...". An error may say more than the example:
-- what was given, and to which function.
local function matches(expected, got)
    local beginning = expected:match("^(.*)%.%.%.$")
    if beginning then
        return got:sub(1, #beginning) == beginning
    end
    if expected:find("^throws: ") and got:sub(1, #expected) == expected then
        return got:find("^[:;] ", #expected + 1) ~= nil or got == expected
    end
    return got == expected
end


-- Executes a file, and returns "ok", or what is wrong. Its variables are its own, unless others are given.
function M.run(name, variables)
    variables = variables or setmetatable({}, { __index = globals })
    local mistakes, statement = {}, {}
    local function execute(expected)
        local text = table.concat(statement, "\n")
        statement = {}
        if not text:find("%S") then
            return
        end
        local got = shown(pcall(load_text(text, "=example", variables)))
        if expected and not matches(expected, got) or not expected and got:find("^throws: ") then
            mistakes[#mistakes + 1] = text .. "\n    returned: " .. got .. "\n    expected: " .. tostring(expected)
        end
    end
    for line in read(name):gmatch("([^\n]*)\n") do
        local expected = line:match("^%-%-> (.*)$")
        if expected then
            execute(expected)
        else
            statement[#statement + 1] = line
        end
    end
    execute()
    return mistakes[1] and table.concat(mistakes, "\n") or "ok"
end


-- Executes a file with values for all examples.
function M.prepare(name)
    assert(M.run(name, globals) == "ok")
end


-- Executes a file in a phase that has no response, and keeps the result under this name for `kept`.
local results = {}

function M.keep(id, name)
    results[id] = M.run(name)
end


function M.kept(id)
    return results[id] or "not executed"
end


return M
