-- What luacheck is to know of the module's Lua code, and of that of its tests and measurements.

std = "ngx_lua"
max_line_length = 130

-- Methods that have no use for their object.
self = false

-- Global in the nginx of the tests and measurements.
files["bench"] = { globals = { "kong", "identities", "authorities", "read_authorities", "read_identities", "consumers" } }
files["bench/load.lua"] = { globals = { "wrk", "init", "request", "done" } }
files["nginx-conf"] = { globals = { "kong" } }
files["nginx-conf/*_spec.lua"] = { std = "+busted" }
files["t/support/lua"] = { globals = { "kong", "tls", "cert", "key" } }
