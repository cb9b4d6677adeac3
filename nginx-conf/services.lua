-- What each service is shown, how it is verified, and where it is; read by services.conf.

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
