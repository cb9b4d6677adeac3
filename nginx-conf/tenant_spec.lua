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
                alice = { certificate = testing.certificate("for-alice"), key = testing.key("for-alice") },
                bob = { certificate = testing.certificate("for-bob"), key = testing.key("for-bob") },
            },
        })
    end)

    it("presents the certificate of the tenant, and verifies the service", function()
        testing.request { consumer = "bob" }
        assert.is_nil(testing.run("access", plugin.access, plugin))

        local settings = testing.settings()
        assert.equal("for-bob", settings.certificate[1].common_name)
        assert.is_true(settings.verify)
        assert.equal(plugin.store, settings.store)
    end)

    it("refuses a consumer who is not a tenant", function()
        testing.request { consumer = "carol" }
        assert.equal(403, testing.run("access", plugin.access, plugin))
        assert.same({}, testing.settings())
        assert.equal("tenant: the consumer is not a tenant", testing.log()[1].message)
    end)

    it("refuses a request without a consumer", function()
        testing.request()
        assert.equal(403, testing.run("access", plugin.access, plugin))
    end)

    it("refuses the anonymous consumer, also if a tenant has that name", function()
        testing.request { consumer = "alice", headers = { ["X-Anonymous-Consumer"] = "true" } }
        assert.equal(403, testing.run("access", plugin.access, plugin))
    end)

    it("fails in a phase that is too late", function()
        testing.request { consumer = "alice" }
        assert.error_matches(function()
            testing.run("log", plugin.access, plugin)
        end, "function cannot be called in log phase")
    end)

    it("does not accept the key of another certificate", function()
        local made, err = tenant.new {
            ca = testing.certificate("ca"),
            tenants = { alice = { certificate = testing.certificate("for-alice"), key = testing.key("for-bob") } },
        }
        assert.is_nil(made)
        assert.equal("tenant \"alice\": key: it does not belong to the certificate", err)
    end)

    it("does not accept an unknown option, nor a missing one", function()
        assert.error_matches(function()
            tenant.new { ca = testing.certificate("ca"), tenants = {}, tenant = {} }
        end, "tenant.new: unknown option \"tenant\"")
        assert.error_matches(function()
            tenant.new { ca = testing.certificate("ca") }
        end, "tenant.new: tenants must be a table")
    end)
end)
