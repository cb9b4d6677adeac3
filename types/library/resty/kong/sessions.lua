-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.sessions

---`require "resty.kong.sessions"`: the TLS sessions that all workers share (`kong_tls_session_cache`).
---@class resty.kong.sessions
local sessions = {}

---Drops the sessions with services that have an identity, in the form of `$kong_upstream_ssl_identity`; or without it
---all sessions, those of clients as well. Returns for how many identities and addresses there were sessions with
---services.
---@param identity? string 16 hexadecimal digits
---@return integer?
---@return string? err
function sessions.drop(identity) end

return sessions
