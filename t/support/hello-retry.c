// SPDX-License-Identifier: Apache-2.0

/*
 * A TLS 1.3 client that sends another server name in its second ClientHello than in its first.
 *
 *     hello-retry SOCKET GROUPS FIRST-NAME SECOND-NAME PATH [CERTIFICATE KEY]
 *
 * Connects to a socket of the file system, offers GROUPS with a key share of the first one only, and sends a
 * request for PATH. With $SESSION_OUT it writes the session to that file, with $SESSION_IN it offers the
 * session in that file. A "-" stands for no name.
 *
 * It prints a line: "retried" after a HelloRetryRequest, "asked" after a CertificateRequest, "new" or
 * "reused", and the last line of the response; or "refused".
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>

static char *second_name;
static int retried, asked;

static void set_name(SSL *ssl, char *name)
{
    SSL_set_tlsext_host_name(ssl, strcmp(name, "-") == 0 ? NULL : name);
}

/* RFC 8446, section 4.1.3: a HelloRetryRequest is a ServerHello with this random value. */
static void on_message(int sent, int version, int type, const void *data, size_t length, SSL *ssl, void *arg)
{
    static const unsigned char hello_retry_request[4] = { 0xCF, 0x21, 0xAD, 0x74 };
    const unsigned char *message = data;

    (void) version;
    (void) arg;
    if (sent || type != SSL3_RT_HANDSHAKE || length < 38) {
        return;
    }
    if (message[0] == SSL3_MT_SERVER_HELLO && memcmp(message + 6, hello_retry_request, 4) == 0) {
        retried = 1;
        set_name(ssl, second_name);
    }
    asked |= message[0] == SSL3_MT_CERTIFICATE_REQUEST;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    FILE *file = fopen(getenv("SESSION_OUT"), "w");

    (void) ssl;
    PEM_write_SSL_SESSION(file, session);
    fclose(file);
    return 0;
}

static void check(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s failed\n", what);
        exit(2);
    }
}

int main(int count, char **words)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char request[1000], response[20000];
    int socket_fd, length, read_now;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl;

    check(count == 6 || count == 8, "usage");
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    check(SSL_CTX_set1_groups_list(context, words[2]), "SSL_CTX_set1_groups_list");
    if (count == 8) {
        check(SSL_CTX_use_certificate_chain_file(context, words[6]), "certificate");
        check(SSL_CTX_use_PrivateKey_file(context, words[7], SSL_FILETYPE_PEM), "key");
    }
    if (getenv("SESSION_OUT") != NULL) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(context, on_session);
    }

    ssl = SSL_new(context);
    second_name = words[4];
    set_name(ssl, words[3]);
    SSL_set_msg_callback(ssl, on_message);
    if (getenv("SESSION_IN") != NULL) {
        FILE *file = fopen(getenv("SESSION_IN"), "r");
        SSL_SESSION *session = file == NULL ? NULL : PEM_read_SSL_SESSION(file, NULL, NULL, NULL);

        check(session != NULL && SSL_set_session(ssl, session), "session");
    }

    strncpy(address.sun_path, words[1], sizeof(address.sun_path) - 1);
    socket_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    check(connect(socket_fd, (struct sockaddr *) &address, sizeof(address)) == 0, "connect");
    SSL_set_fd(ssl, socket_fd);

    /* With TLS 1.3, a server may refuse the handshake after the client has finished it. */
    length = 0;
    if (SSL_connect(ssl) == 1) {
        snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", words[5],
                 strcmp(second_name, "-") == 0 ? "localhost" : second_name);
        SSL_write(ssl, request, (int) strlen(request));
        while ((read_now = SSL_read(ssl, response + length, (int) sizeof(response) - 1 - length)) > 0) {
            length += read_now;
        }
    }
    response[length] = '\0';
    if (length == 0) {
        printf("%srefused\n", retried ? "retried " : "");
        return 0;
    }
    while (length > 0 && response[length - 1] == '\n') {
        response[--length] = '\0';
    }
    printf("%s%s%s %s\n", retried ? "retried " : "", asked ? "asked " : "",
           SSL_session_reused(ssl) ? "reused" : "new", strrchr(response, '\n') + 1);
    return 0;
}
