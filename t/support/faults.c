// SPDX-License-Identifier: Apache-2.0

/*
 * Makes calls of the module to OpenSSL, to nginx and for memory fail, one at a time.
 *
 * Is preloaded into nginx. When nginx has loaded the module, the addresses of the functions that the module
 * calls are replaced by those of this file. So nginx, Lua and OpenSSL themselves are not affected.
 *
 * $FAULTS is a file that a test and nginx share: see `struct control`.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CALLS 8000

static struct control {
    /* The first and the last call that must fail, counted from 1; 0 for none. */
    uint32_t first;
    uint32_t last;
    /* The number of calls that were made. */
    uint32_t count;
    /* The functions that were called, as indexes of `functions`. */
    uint8_t calls[CALLS];
} *control;

typedef long (*function)(long, long, long, long, long, long);

/* FUNCTION(name, what it returns when it fails) */
#define FUNCTIONS \
    FUNCTION(ASN1_GENERALIZEDTIME_new, 0) \
    FUNCTION(ASN1_GENERALIZEDTIME_set_string, 0) \
    FUNCTION(ASN1_STRING_to_UTF8, -1) \
    FUNCTION(ASN1_TIME_diff, 0) \
    FUNCTION(ASN1_TIME_print, 0) \
    FUNCTION(ASN1_TIME_set, 0) \
    FUNCTION(BIO_new, 0) \
    FUNCTION(BIO_new_mem_buf, 0) \
    FUNCTION(BIO_new_socket, 0) \
    FUNCTION(EVP_DecodeBlock, -1) \
    FUNCTION(EVP_DigestSign, 0) \
    FUNCTION(EVP_DigestSignInit, 0) \
    FUNCTION(EVP_MD_CTX_new, 0) \
    FUNCTION(EVP_PKEY_get1_EC_KEY, 0) \
    FUNCTION(EVP_PKEY_up_ref, 0) \
    FUNCTION(EVP_get_digestbyname, 0) \
    FUNCTION(OCSP_REQUEST_new, 0) \
    FUNCTION(OCSP_basic_verify, 0) \
    FUNCTION(OCSP_cert_to_id, 0) \
    FUNCTION(OCSP_request_add0_id, 0) \
    FUNCTION(OCSP_request_add1_nonce, 0) \
    FUNCTION(OCSP_response_get1_basic, 0) \
    FUNCTION(OSSL_STORE_open, 0) \
    FUNCTION(UI_UTIL_wrap_read_pem_callback, 0) \
    FUNCTION(OPENSSL_LH_retrieve, 0) \
    FUNCTION(OPENSSL_sk_dup, 0) \
    FUNCTION(OPENSSL_sk_new_null, 0) \
    FUNCTION(OPENSSL_sk_push, 0) \
    FUNCTION(PEM_read_bio, 0) \
    FUNCTION(PEM_read_bio_PrivateKey, 0) \
    FUNCTION(PEM_write_bio_X509, 0) \
    FUNCTION(RAND_bytes, 0) \
    FUNCTION(SSL_CTX_new, 0) \
    FUNCTION(SSL_SESSION_new, 0) \
    FUNCTION(SSL_SESSION_set1_id, 0) \
    FUNCTION(SSL_SESSION_set1_id_context, 0) \
    FUNCTION(SSL_SESSION_set1_ticket_appdata, 0) \
    FUNCTION(SSL_SESSION_set_protocol_version, 0) \
    FUNCTION(SSL_SESSION_up_ref, 0) \
    FUNCTION(SSL_ctrl, 0) \
    FUNCTION(SSL_get_ciphers, 0) \
    FUNCTION(SSL_new, 0) \
    FUNCTION(SSL_set_SSL_CTX, 0) \
    FUNCTION(SSL_set_cipher_list, 0) \
    FUNCTION(SSL_set_ciphersuites, 0) \
    FUNCTION(SSL_set_ex_data, 0) \
    FUNCTION(SSL_set_num_tickets, 0) \
    FUNCTION(SSL_set_session, 0) \
    FUNCTION(SSL_set_session_id_context, 0) \
    FUNCTION(SSL_up_ref, 0) \
    FUNCTION(SSL_use_PrivateKey, 0) \
    FUNCTION(SSL_use_certificate, 0) \
    FUNCTION(X509_LOOKUP_meth_new, 0) \
    FUNCTION(X509_NAME_dup, 0) \
    FUNCTION(X509_NAME_print_ex, -1) \
    FUNCTION(X509_OBJECT_set1_X509, 0) \
    FUNCTION(X509_OBJECT_set1_X509_CRL, 0) \
    FUNCTION(X509_STORE_CTX_init, 0) \
    FUNCTION(X509_STORE_CTX_new, 0) \
    FUNCTION(X509_STORE_CTX_set_ex_data, 0) \
    FUNCTION(X509_STORE_add_cert, 0) \
    FUNCTION(X509_STORE_add_crl, 0) \
    FUNCTION(X509_STORE_add_lookup, 0) \
    FUNCTION(X509_STORE_new, 0) \
    FUNCTION(X509_STORE_set_ex_data, 0) \
    FUNCTION(X509_STORE_set_flags, 0) \
    FUNCTION(X509_STORE_up_ref, 0) \
    FUNCTION(X509_VERIFY_PARAM_set1, 0) \
    FUNCTION(X509_VERIFY_PARAM_set_flags, 0) \
    FUNCTION(X509_VERIFY_PARAM_set_purpose, 0) \
    FUNCTION(X509_VERIFY_PARAM_set_trust, 0) \
    FUNCTION(X509_check_host, -1) \
    FUNCTION(X509_check_private_key, 0) \
    FUNCTION(X509_CRL_verify, 0) \
    FUNCTION(X509_digest, 0) \
    FUNCTION(X509_get_pubkey, 0) \
    FUNCTION(X509_get_X509_PUBKEY, 0) \
    FUNCTION(X509_get_ext_d2i, 0) \
    FUNCTION(X509_get_extension_flags, 0) \
    FUNCTION(X509_get_key_usage, 0) \
    FUNCTION(X509_load_cert_file, 0) \
    FUNCTION(X509_load_crl_file, 0) \
    FUNCTION(X509_new, 0) \
    FUNCTION(X509_set_ex_data, 0) \
    FUNCTION(X509_set_subject_name, 0) \
    FUNCTION(X509_up_ref, 0) \
    FUNCTION(X509_verify_cert, -1) \
    FUNCTION(calloc, 0) \
    FUNCTION(d2i_OCSP_REQUEST, 0) \
    FUNCTION(d2i_OCSP_RESPONSE, 0) \
    FUNCTION(d2i_SSL_SESSION, 0) \
    FUNCTION(d2i_X509, 0) \
    FUNCTION(d2i_X509_AUX, 0) \
    FUNCTION(d2i_X509_CRL, 0) \
    FUNCTION(i2a_ASN1_INTEGER, -1) \
    FUNCTION(i2d_OCSP_REQUEST, -1) \
    FUNCTION(i2d_OCSP_RESPONSE, -1) \
    FUNCTION(i2d_PUBKEY, -1) \
    FUNCTION(i2d_SSL_SESSION, 0) \
    FUNCTION(i2d_X509, -1) \
    FUNCTION(i2d_X509_AUX, -1) \
    FUNCTION(i2d_X509_CRL, -1) \
    FUNCTION(i2d_X509_NAME, -1) \
    FUNCTION(i2d_X509_PUBKEY, -1) \
    FUNCTION(malloc, 0) \
    FUNCTION(ngx_create_temp_buf, 0) \
    FUNCTION(ngx_handle_read_event, -1) \
    FUNCTION(ngx_http_arg, -1) \
    FUNCTION(ngx_http_complex_value, -1) \
    FUNCTION(ngx_http_get_indexed_variable, 0) \
    FUNCTION(ngx_http_output_filter, -1) \
    FUNCTION(ngx_http_send_header, -1) \
    FUNCTION(ngx_http_upstream_create_round_robin_peer, -1) \
    FUNCTION(ngx_list_push, 0) \
    FUNCTION(ngx_palloc, 0) \
    FUNCTION(ngx_parse_url, -1) \
    FUNCTION(ngx_pnalloc, 0) \
    FUNCTION(ngx_pool_cleanup_add, 0) \
    FUNCTION(posix_memalign, 12) \
    FUNCTION(realloc, 0)

enum {
#define FUNCTION(name, failed) CALL_##name,
    FUNCTIONS
#undef FUNCTION
    FUNCTION_COUNT
};

static function originals[FUNCTION_COUNT];

static int
must_fail(int called)
{
    uint32_t count;

    if (control == NULL) {
        return 0;
    }
    count = ++control->count;
    if (count <= CALLS) {
        control->calls[count - 1] = (uint8_t) called;
    }
    return count >= control->first && count <= control->last;
}

/* All arguments are integers and pointers, and no function has more than six of them. */
#define FUNCTION(name, failed) \
    static long call_##name(long a, long b, long c, long d, long e, long f) \
    { return must_fail(CALL_##name) ? (failed) : originals[CALL_##name](a, b, c, d, e, f); }
FUNCTIONS
#undef FUNCTION

static const struct {
    const char *name;
    function ours;
} functions[] = {
#define FUNCTION(name, failed) { #name, call_##name },
    FUNCTIONS
#undef FUNCTION
};

static void
replace(const struct link_map *module, const ElfW(Rela) *relocations, size_t size, const ElfW(Sym) *symbols,
    const char *names)
{
    size_t i, page = (size_t) sysconf(_SC_PAGESIZE);
    int k;

    for (i = 0; i < size / sizeof(*relocations); i++) {
        const char *name = names + symbols[ELF64_R_SYM(relocations[i].r_info)].st_name;
        function *place = (function *) (module->l_addr + relocations[i].r_offset);

        for (k = 0; k < FUNCTION_COUNT && strcmp(name, functions[k].name) != 0; k++) { /* void */ }
        if (k == FUNCTION_COUNT) {
            continue;
        }
        if (mprotect((void *) ((uintptr_t) place & ~(page - 1)), page, PROT_READ | PROT_WRITE) != 0) {
            perror("mprotect");
            abort();
        }
        if (*place != functions[k].ours) {
            originals[k] = *place;
            *place = functions[k].ours;
        }
    }
}

static void
replace_all(void *handle)
{
    struct link_map *module;
    ElfW(Dyn) *entry;
    ElfW(Addr) values[DT_NUM] = { 0 };

    if (dlinfo(handle, RTLD_DI_LINKMAP, &module) != 0) {
        abort();
    }
    for (entry = module->l_ld; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag < DT_NUM) {
            values[entry->d_tag] = entry->d_un.d_ptr;
        }
    }
    replace(module, (void *) values[DT_RELA], values[DT_RELASZ], (void *) values[DT_SYMTAB],
        (void *) values[DT_STRTAB]);
    replace(module, (void *) values[DT_JMPREL], values[DT_PLTRELSZ], (void *) values[DT_SYMTAB],
        (void *) values[DT_STRTAB]);
}

/* nginx loads modules with this function. */
void *
dlopen(const char *file, int flags)
{
    static void *(*original)(const char *, int);
    void *handle;

    if (original == NULL) {
        original = (void *(*)(const char *, int)) dlsym(RTLD_NEXT, "dlopen");
    }
    handle = original(file, flags);
    if (handle != NULL && file != NULL && strstr(file, "ngx_http_kong_tls_module") != NULL) {
        const char *shared = getenv("FAULTS");
        int descriptor = shared ? open(shared, O_RDWR) : -1;

        if (descriptor == -1) {
            perror("FAULTS");
            abort();
        }
        control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        close(descriptor);
        if (control == MAP_FAILED) {
            abort();
        }
        replace_all(handle);
    }
    return handle;
}

#ifdef LIST
/* Prints for the test what can fail. */
int
main(void)
{
    int k;

    for (k = 0; k < FUNCTION_COUNT; k++) {
        puts(functions[k].name);
    }
    return 0;
}
#endif
