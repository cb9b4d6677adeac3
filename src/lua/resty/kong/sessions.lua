-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.sessions: the TLS sessions that all workers share (kong_tls_session_cache).

local natives = ...

local mistakes = require "resty.kong.tls.mistakes"
local is_given = require("resty.kong.tls.values").is_given

local error = error
local find = string.find
local type = type

local DROP = "resty.kong.sessions.drop"

local M = {}


-- Drops the sessions with services that have an identity, in the form of
-- $kong_upstream_ssl_identity; or, without an argument, all sessions, those of clients as well. No
-- worker resumes them any more.
function M.drop(identity)
    if is_given(identity) and not (type(identity) == "string" and #identity == 16
                                   and find(identity, "^[0-9a-f]+$")) then
        error(mistakes.about("identity must be a value of $kong_upstream_ssl_identity", identity, DROP, M), 2)
    end
    return natives.drop(identity)
end


return M
