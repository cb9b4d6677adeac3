-- Unit tests of tenant.lua, without nginx: docs/guides/writing-a-plugin.md explains them.

local testing = require "resty.kong.testing"

-- First: the plugin gets the stand-ins when it is loaded.
testing.install()
local tenant = require "tenant"

describe("the plugin tenant", function()
    local plugin

    before_each(function()
        plugin = assert(tenant.new {
            ca = testing.certificate("ca"),
            tenants = {
                client1 = { certificate = testing.certificate("client1"), key = testing.key("client1") },
                client2 = { certificate = testing.certificate("client2"), key = testing.key("client2") },
            },
        })
    end)

    it("presents the certificate of the tenant, and verifies the service", function()
        testing.request { args = { tenant = "client2" } }
        assert.is_nil(testing.run("access", plugin.access, plugin))

        local settings = testing.settings()
        assert.equal("client2", settings.certificate[1].common_name)
        assert.is_true(settings.verify)
        assert.equal(plugin.store, settings.store)
    end)

    it("refuses an unknown tenant", function()
        testing.request { args = { tenant = "client3" } }
        assert.equal(403, testing.run("access", plugin.access, plugin))
        assert.same({}, testing.settings())
        assert.equal("tenant: there is no such tenant", testing.log()[1].message)
    end)

    it("refuses a request without a tenant", function()
        testing.request()
        assert.equal(403, testing.run("access", plugin.access, plugin))
    end)

    it("fails in a phase that is too late", function()
        testing.request { args = { tenant = "client1" } }
        assert.error_matches(function()
            testing.run("log", plugin.access, plugin)
        end, "function cannot be called in log phase")
    end)

    it("does not accept the key of another certificate", function()
        local made, err = tenant.new {
            ca = testing.certificate("ca"),
            tenants = { client1 = { certificate = testing.certificate("client1"), key = testing.key("client2") } },
        }
        assert.is_nil(made)
        assert.equal("tenant \"client1\": key: it does not belong to the certificate", err)
    end)
end)
