// SPDX-License-Identifier: Apache-2.0

/*
 * Stand-ins for proxy_ssl_certificate_by_lua_file and proxy_ssl_verify_by_lua_file, which the Lua module
 * has where nginx has OpenResty's patch. As there, they are directives of that module, and callbacks of the TLS
 * context of the location. In place of Lua code, the arguments of the request decide:
 *
 *     proxy_ssl_certificate_by_lua_file FOLDER;   presents FOLDER/NAME.crt for the argument "t=NAME"
 *     proxy_ssl_verify_by_lua_file ANYTHING;      rejects the service if there is an argument "bad"
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

typedef struct {
    ngx_str_t   folder;
    ngx_flag_t  verify;
} location_t;

extern ngx_module_t  ngx_http_stand_in_module;

static ngx_http_request_t *
request_of(ngx_ssl_conn_t *ssl)
{
    ngx_connection_t  *c = ngx_ssl_get_connection(ssl);

    return c->data;
}

static int
choose(ngx_ssl_conn_t *ssl, void *data)
{
    char                 path[4096];
    ngx_str_t            name;
    ngx_http_request_t  *r = request_of(ssl);
    location_t          *location = ngx_http_get_module_loc_conf(r, ngx_http_stand_in_module);

    (void) data;
    if (ngx_http_arg(r, (u_char *) "t", 1, &name) != NGX_OK) {
        return 1;
    }
    snprintf(path, sizeof(path), "%.*s/%.*s.crt", (int) location->folder.len, location->folder.data,
             (int) name.len, name.data);
    if (SSL_use_certificate_file(ssl, path, SSL_FILETYPE_PEM) != 1) {
        return 0;
    }
    strcpy(strrchr(path, '.'), ".key");
    return SSL_use_PrivateKey_file(ssl, path, SSL_FILETYPE_PEM);
}

static int
judge(X509_STORE_CTX *store, void *data)
{
    ngx_str_t  value;
    SSL       *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());

    (void) data;
    if (ngx_http_arg(request_of(ssl), (u_char *) "bad", 3, &value) == NGX_OK) {
        /* Like ngx.ssl.proxysslverify.set_verify_result(): the handshake goes on. */
        X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    }
    return 1;
}

static char *
certificate_by_lua(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t   *value = cf->args->elts;
    location_t  *location = ngx_http_conf_get_module_loc_conf(cf, ngx_http_stand_in_module);

    (void) cmd, (void) conf;
    location->folder = value[1];
    return NGX_CONF_OK;
}

static char *
verify_by_lua(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    location_t  *location = ngx_http_conf_get_module_loc_conf(cf, ngx_http_stand_in_module);

    (void) cmd, (void) conf;
    location->verify = 1;
    return NGX_CONF_OK;
}

#define ANYWHERE (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1)

static ngx_command_t  directives[] = {
    { ngx_string("proxy_ssl_certificate_by_lua_file"), ANYWHERE, certificate_by_lua,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    { ngx_string("proxy_ssl_verify_by_lua_file"), ANYWHERE, verify_by_lua,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    ngx_null_command
};

/* Adds the directives to the Lua module. */
static ngx_int_t
preconfiguration(ngx_conf_t *cf)
{
    static ngx_command_t  all[256];
    ngx_uint_t            i, n;
    ngx_module_t         *module;

    for (i = 0; cf->cycle->modules[i]; i++) {
        module = cf->cycle->modules[i];
        if (strcmp(module->name, "ngx_http_lua_module") != 0 || module->commands == all) {
            continue;
        }
        for (n = 0; module->commands[n].name.len; n++) {
            if (n == 250) {
                return NGX_ERROR;
            }
            all[n] = module->commands[n];
        }
        memcpy(&all[n], directives, sizeof(directives));
        module->commands = all;
    }
    return NGX_OK;
}

static void *
create(ngx_conf_t *cf)
{
    location_t  *location = ngx_pcalloc(cf->pool, sizeof(location_t));

    if (location) {
        location->verify = NGX_CONF_UNSET;
    }
    return location;
}

static char *
merge(ngx_conf_t *cf, void *parent, void *child)
{
    location_t                *around = parent, *location = child;
    ngx_uint_t                 i;
    ngx_module_t              *module;
    ngx_http_upstream_conf_t  *upstream = NULL;

    ngx_conf_merge_str_value(location->folder, around->folder, "");
    ngx_conf_merge_value(location->verify, around->verify, 0);
    for (i = 0; cf->cycle->modules[i]; i++) {
        module = cf->cycle->modules[i];
        if (strcmp(module->name, "ngx_http_proxy_module") == 0) {
            upstream = ((ngx_http_conf_ctx_t *) cf->ctx)->loc_conf[module->ctx_index];
        }
    }
    if (upstream == NULL || upstream->ssl == NULL || upstream->ssl->ctx == NULL) {
        return NGX_CONF_OK;
    }
    if (location->folder.len) {
        SSL_CTX_set_cert_cb(upstream->ssl->ctx, choose, NULL);
    }
    if (location->verify) {
        SSL_CTX_set_cert_verify_callback(upstream->ssl->ctx, judge, NULL);
    }
    return NGX_CONF_OK;
}

static ngx_http_module_t  context = { preconfiguration, NULL, NULL, NULL, NULL, NULL, create, merge };

ngx_module_t  ngx_http_stand_in_module = {
    NGX_MODULE_V1, &context, NULL, NGX_HTTP_MODULE, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};

ngx_module_t  *ngx_modules[] = { &ngx_http_stand_in_module, NULL };
char          *ngx_module_names[] = { "ngx_http_stand_in_module", NULL };
char          *ngx_module_order[] = { NULL };
