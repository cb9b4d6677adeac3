// SPDX-License-Identifier: Apache-2.0

/*
 * A service with TLS 1.2 that asks for another handshake on the same connection, and presents another certificate
 * there.
 *
 *     renegotiates SOCKET FIRST SECOND
 *
 * FIRST and SECOND are certificates NAME, with their NAME.crt and NAME.key in the folder $TEST_NGINX_PKI. It answers
 * each request when another handshake is done.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/ssl.h>

static int present(SSL *ssl, const char *name)
{
    char certificate[512], key[512];

    snprintf(certificate, sizeof certificate, "%s/%s.crt", getenv("TEST_NGINX_PKI"), name);
    snprintf(key, sizeof key, "%s/%s.key", getenv("TEST_NGINX_PKI"), name);
    return SSL_use_certificate_file(ssl, certificate, SSL_FILETYPE_PEM) == 1
        && SSL_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) == 1;
}

static int reads_request(SSL *ssl)
{
    char request[4096] = "";
    size_t length = 0;

    while (!strstr(request, "\r\n\r\n")) {
        int count = SSL_read(ssl, request + length, (int) (sizeof request - 1 - length));

        if (count <= 0) {
            return 0;
        }
        length += (size_t) count;
        request[length] = '\0';
    }
    return 1;
}

static int handshakes;

static void count_handshakes(const SSL *ssl, int what, int value)
{
    (void) ssl;
    (void) value;
    handshakes += what == SSL_CB_HANDSHAKE_DONE;
}

/* Asks for another handshake, and waits for its end. */
static int renegotiates(SSL *ssl)
{
    char nothing;

    /* OpenSSL counts the request as a handshake. */
    if (SSL_renegotiate(ssl) != 1 || SSL_do_handshake(ssl) != 1) {
        return 0;
    }
    handshakes = 0;
    while (handshakes == 0) {
        int count = SSL_read(ssl, &nothing, 1);

        if (count > 0 || SSL_get_error(ssl, count) != SSL_ERROR_WANT_READ) {
            return 0;
        }
    }
    return 1;
}

static void serve(SSL *ssl, const char *first, const char *second)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nagain\n";

    if (!present(ssl, first) || SSL_accept(ssl) != 1) {
        return;
    }
    while (reads_request(ssl)) {
        if (!present(ssl, second) || !renegotiates(ssl) || SSL_write(ssl, answer, sizeof answer - 1) <= 0) {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    int listening = socket(AF_UNIX, SOCK_STREAM, 0);

    if (argc != 4 || strlen(argv[1]) >= sizeof address.sun_path) {
        return 2;
    }
    strcpy(address.sun_path, argv[1]);
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION);
    SSL_CTX_set_info_callback(context, count_handshakes);
    /* SSL_read returns when a handshake is done. */
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    if (bind(listening, (struct sockaddr *) &address, sizeof address) != 0 || listen(listening, 16) != 0) {
        return 1;
    }
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int connection = accept(listening, NULL, NULL);

        if (fork() == 0) {
            SSL *ssl = SSL_new(context);

            SSL_set_fd(ssl, connection);
            serve(ssl, argv[2], argv[3]);
            return 0;
        }
        close(connection);
    }
}
