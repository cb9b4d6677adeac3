-- The client certificate for each service, its verification, and its address. services.conf reads this file.

return {
    orders = {
        upstream    = "orders",
        certificate = "pki/client1.crt",
        key         = "pki/client1.key",
    },
    billing = {
        host        = "127.0.0.1",
        port        = 8444,
        certificate = "pki/client2.crt",
        key         = "pki/client2.key",
        depth       = 2,
    },
    partner = {
        host = "127.0.0.1",
        port = 8445,
        ca   = { file = "pki/other-ca.crt" },
    },
    impostor = {
        host = "127.0.0.1",
        port = 8445,
    },
}
