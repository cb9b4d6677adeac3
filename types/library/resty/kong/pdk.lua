-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.pdk

---@type kong
local pdk = {}

return pdk
