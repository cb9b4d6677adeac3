// SPDX-License-Identifier: Apache-2.0

/*
 * Access to nginx's bitfields, and to fields that some versions of nginx lack, by the C compiler that
 * lays them out.
 *
 * bindgen (0.72) gets bitfields wrong that begin in the middle of a word, such as those of
 * ngx_http_request_t in nginx 1.30.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <stdbool.h>

#define GET(structure, name, type, field) \
    type name##_##field(const structure *it) { return it->field; }
#define SET(structure, name, type, field) \
    void set_##name##_##field(structure *it, type value) { it->field = value; }

GET(ngx_http_request_t, request, bool, filter_finalize)
GET(ngx_http_request_t, request, bool, header_only)
GET(ngx_http_request_t, request, bool, internal)
GET(ngx_http_request_t, request, bool, request_body_no_buffering)

GET(ngx_http_upstream_t, upstream, bool, keepalive)
SET(ngx_http_upstream_t, upstream, bool, keepalive)
GET(ngx_http_upstream_t, upstream, bool, request_body_sent)
SET(ngx_http_upstream_t, upstream, bool, request_body_sent)
GET(ngx_http_upstream_t, upstream, bool, request_sent)
GET(ngx_http_upstream_t, upstream, bool, ssl)

GET(ngx_peer_connection_t, peer, bool, cached)
SET(ngx_peer_connection_t, peer, bool, cached)
GET(ngx_peer_connection_t, peer, unsigned, log_error)

GET(ngx_connection_t, connection, bool, close)
GET(ngx_connection_t, connection, bool, error)
SET(ngx_connection_t, connection, bool, idle)
SET(ngx_connection_t, connection, unsigned, log_error)

GET(ngx_ssl_connection_t, ssl, bool, handshaked)
SET(ngx_ssl_connection_t, ssl, bool, handshake_rejected)
SET(ngx_ssl_connection_t, ssl, bool, no_send_shutdown)
SET(ngx_ssl_connection_t, ssl, bool, no_wait_shutdown)

SET(ngx_event_t, event, bool, delayed)
GET(ngx_event_t, event, bool, eof)
GET(ngx_event_t, event, bool, error)
GET(ngx_event_t, event, bool, ready)
SET(ngx_event_t, event, bool, ready)
GET(ngx_event_t, event, bool, timedout)
GET(ngx_event_t, event, bool, timer_set)

GET(ngx_http_core_loc_conf_t, location, bool, lmt_excpt)
GET(ngx_http_core_loc_conf_t, location, bool, noname)

GET(ngx_http_addr_conf_t, address, bool, http2)

SET(ngx_url_t, url, bool, uri_part)
SET(ngx_url_t, url, bool, no_resolve)
GET(ngx_url_t, url, bool, no_port)

SET(ngx_buf_t, buffer, bool, last_buf)
SET(ngx_buf_t, buffer, bool, last_in_chain)

SET(ngx_variable_value_t, variable, unsigned, len)
SET(ngx_variable_value_t, variable, bool, no_cacheable)
SET(ngx_variable_value_t, variable, bool, not_found)
SET(ngx_variable_value_t, variable, bool, valid)

/* nginx defines these inline, and they use bitfields. */
void
event_add_timer(ngx_event_t *it, ngx_msec_t timer)
{
    ngx_add_timer(it, timer);
}

void
event_del_timer(ngx_event_t *it)
{
    ngx_del_timer(it);
}

/* QUIC: since nginx 1.25.0. */
#if (nginx_version >= 1025000)
GET(ngx_http_addr_conf_t, address, bool, quic)
#else
bool
address_quic(const ngx_http_addr_conf_t *it)
{
    (void) it;
    return false;
}
#endif

/* The session of `sticky`, if this nginx has that directive. */
void *
peer_sid(const ngx_peer_connection_t *it)
{
#if (NGX_HTTP_UPSTREAM_SID)
    return it->sid;
#else
    (void) it;
    return NULL;
#endif
}

void
set_peer_sid(ngx_peer_connection_t *it, void *value)
{
#if (NGX_HTTP_UPSTREAM_SID)
    it->sid = value;
#else
    (void) it;
    (void) value;
#endif
}

/*
 * Makes an attempt prove nothing about its server: neither that it has failed, nor that a failed server
 * has recovered, which ngx_http_upstream_free_round_robin_peer() concludes from `accessed < checked`. The
 * server is found by the pointer to its address, which balancers take from the list. A server that is not
 * in the list is not counted.
 */
void
round_robin_forget_check(ngx_http_upstream_srv_conf_t *block, const ngx_peer_connection_t *pc)
{
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *peers;

    for (peers = block->peer.data; peers; peers = peers->next) {
        ngx_http_upstream_rr_peers_rlock(peers);

        for (peer = peers->peer; peer; peer = peer->next) {
            if (peer->sockaddr == pc->sockaddr) {
                ngx_http_upstream_rr_peer_lock(peers, peer);
                if (peer->accessed < peer->checked) {
                    peer->checked = peer->accessed;
                }
                ngx_http_upstream_rr_peer_unlock(peers, peer);
                ngx_http_upstream_rr_peers_unlock(peers);
                return;
            }
        }
        ngx_http_upstream_rr_peers_unlock(peers);
    }
}

/* The ALPN protocols of a request: since nginx 1.29.4. */
const ngx_str_t *
upstream_ssl_alpn_protocol(const ngx_http_upstream_t *it)
{
#if (nginx_version >= 1029004)
    return &it->ssl_alpn_protocol;
#else
    (void) it;
    return NULL;
#endif
}

/* The offsets of fields that Rust code accesses through bindgen: see layout.rs. */
#define FIELD(structure, field) { #structure "." #field, offsetof(structure, field) },

const struct {
    const char *name;
    size_t offset;
} nginx_fields[] = {
    FIELD(ngx_http_request_t, connection)
    FIELD(ngx_http_request_t, ctx)
    FIELD(ngx_http_request_t, main_conf)
    FIELD(ngx_http_request_t, srv_conf)
    FIELD(ngx_http_request_t, loc_conf)
    FIELD(ngx_http_request_t, upstream)
    FIELD(ngx_http_request_t, pool)
    FIELD(ngx_http_request_t, headers_in)
    FIELD(ngx_http_request_t, headers_out)
    FIELD(ngx_http_request_t, main)
    FIELD(ngx_http_request_t, parent)
    FIELD(ngx_http_request_t, uri)
    FIELD(ngx_http_request_t, method)
    FIELD(ngx_http_request_t, upstream_states)
    FIELD(ngx_http_request_t, http_connection)
    FIELD(ngx_http_headers_in_t, headers)
    FIELD(ngx_http_headers_in_t, server)
    FIELD(ngx_http_connection_t, addr_conf)
    FIELD(ngx_http_connection_t, conf_ctx)
    FIELD(ngx_http_core_main_conf_t, servers)
    FIELD(ngx_http_core_main_conf_t, phases)
    FIELD(ngx_http_upstream_t, peer)
    FIELD(ngx_http_upstream_t, conf)
    FIELD(ngx_http_upstream_t, ssl_name)
    FIELD(ngx_http_upstream_t, upstream)
    FIELD(ngx_http_upstream_t, state)
    FIELD(ngx_http_upstream_t, headers_in)
    FIELD(ngx_http_upstream_headers_in_t, status_n)
    FIELD(ngx_http_upstream_state_t, bytes_received)
    FIELD(ngx_peer_connection_t, connection)
    FIELD(ngx_peer_connection_t, sockaddr)
    FIELD(ngx_peer_connection_t, socklen)
    FIELD(ngx_peer_connection_t, name)
    FIELD(ngx_peer_connection_t, tries)
    FIELD(ngx_peer_connection_t, get)
    FIELD(ngx_peer_connection_t, free)
    FIELD(ngx_peer_connection_t, notify)
    FIELD(ngx_peer_connection_t, data)
    FIELD(ngx_peer_connection_t, set_session)
    FIELD(ngx_peer_connection_t, save_session)
    FIELD(ngx_peer_connection_t, log)
    FIELD(ngx_connection_t, data)
    FIELD(ngx_connection_t, read)
    FIELD(ngx_connection_t, write)
    FIELD(ngx_connection_t, fd)
    FIELD(ngx_connection_t, pool)
    FIELD(ngx_connection_t, log)
    FIELD(ngx_connection_t, ssl)
    FIELD(ngx_connection_t, sockaddr)
    FIELD(ngx_connection_t, sent)
    FIELD(ngx_connection_t, start_time)
    FIELD(ngx_connection_t, requests)
    FIELD(ngx_connection_t, addr_text)
    FIELD(ngx_ssl_connection_t, connection)
    FIELD(ngx_ssl_connection_t, save_session)
    FIELD(ngx_ssl_connection_t, handler)
    FIELD(ngx_event_t, data)
    FIELD(ngx_event_t, handler)
    FIELD(ngx_event_t, log)
    FIELD(ngx_http_core_loc_conf_t, name)
    FIELD(ngx_http_core_loc_conf_t, handler)
    FIELD(ngx_http_core_loc_conf_t, resolver)
    FIELD(ngx_http_core_loc_conf_t, error_pages)
    FIELD(ngx_http_addr_conf_t, default_server)
    FIELD(ngx_http_addr_conf_t, virtual_names)
    FIELD(ngx_http_upstream_conf_t, upstream)
    FIELD(ngx_http_upstream_conf_t, connect_timeout)
    FIELD(ngx_http_upstream_conf_t, send_timeout)
    FIELD(ngx_http_upstream_conf_t, read_timeout)
    FIELD(ngx_http_upstream_conf_t, next_upstream)
    FIELD(ngx_http_upstream_conf_t, next_upstream_timeout)
    FIELD(ngx_http_upstream_conf_t, next_upstream_tries)
    FIELD(ngx_http_upstream_conf_t, ssl)
    FIELD(ngx_http_upstream_conf_t, ssl_session_reuse)
    FIELD(ngx_http_upstream_conf_t, ssl_name)
    FIELD(ngx_http_upstream_conf_t, ssl_server_name)
    FIELD(ngx_http_upstream_conf_t, ssl_verify)
    FIELD(ngx_http_upstream_conf_t, ssl_certificate)
    FIELD(ngx_http_upstream_conf_t, ssl_certificate_key)
    FIELD(ngx_url_t, url)
    FIELD(ngx_url_t, host)
    FIELD(ngx_buf_t, pos)
    FIELD(ngx_buf_t, last)
    FIELD(ngx_variable_value_t, data)
    FIELD(ngx_http_upstream_srv_conf_t, srv_conf)
    FIELD(ngx_http_upstream_srv_conf_t, peer)
    FIELD(ngx_http_upstream_peer_t, init_upstream)
    { "sizeof(ngx_http_upstream_conf_t)", sizeof(ngx_http_upstream_conf_t) },
    { "sizeof(ngx_http_request_t)", sizeof(ngx_http_request_t) },
    { "sizeof(ngx_http_upstream_t)", sizeof(ngx_http_upstream_t) },
    { "sizeof(ngx_http_upstream_state_t)", sizeof(ngx_http_upstream_state_t) },
    { "sizeof(ngx_variable_value_t)", sizeof(ngx_variable_value_t) },
    { NULL, 0 },
};
