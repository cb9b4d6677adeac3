/*
 * What nginx keeps in bitfields, read and written by the compiler that lays them out.
 *
 * bindgen (0.72) is wrong about bitfields that begin in the middle of a word, as those of
 * ngx_http_request_t do in nginx 1.30.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#define GET(structure, name, field) \
    unsigned name##_##field(const structure *it) { return it->field; }
#define SET(structure, name, field) \
    void set_##name##_##field(structure *it, unsigned value) { it->field = value; }

GET(ngx_http_request_t, request, filter_finalize)
GET(ngx_http_request_t, request, header_only)
GET(ngx_http_request_t, request, internal)

GET(ngx_http_upstream_t, upstream, keepalive)
SET(ngx_http_upstream_t, upstream, keepalive)
GET(ngx_http_upstream_t, upstream, request_body_sent)
GET(ngx_http_upstream_t, upstream, request_sent)
GET(ngx_http_upstream_t, upstream, ssl)

GET(ngx_peer_connection_t, peer, cached)
SET(ngx_peer_connection_t, peer, cached)
GET(ngx_peer_connection_t, peer, log_error)

GET(ngx_connection_t, connection, close)
SET(ngx_connection_t, connection, idle)
SET(ngx_connection_t, connection, log_error)

GET(ngx_ssl_connection_t, ssl, handshaked)
SET(ngx_ssl_connection_t, ssl, handshake_rejected)
SET(ngx_ssl_connection_t, ssl, no_send_shutdown)
SET(ngx_ssl_connection_t, ssl, no_wait_shutdown)

SET(ngx_event_t, event, delayed)
GET(ngx_event_t, event, eof)
GET(ngx_event_t, event, error)
GET(ngx_event_t, event, ready)
SET(ngx_event_t, event, ready)
GET(ngx_event_t, event, timedout)
GET(ngx_event_t, event, timer_set)

GET(ngx_http_core_loc_conf_t, location, lmt_excpt)
GET(ngx_http_core_loc_conf_t, location, noname)

GET(ngx_http_addr_conf_t, address, http2)

SET(ngx_buf_t, buffer, last_buf)
SET(ngx_buf_t, buffer, last_in_chain)

SET(ngx_variable_value_t, variable, len)
SET(ngx_variable_value_t, variable, no_cacheable)
SET(ngx_variable_value_t, variable, not_found)
SET(ngx_variable_value_t, variable, valid)

/* nginx 1.25.0 is the first that has QUIC. */
#if (nginx_version >= 1025000)
GET(ngx_http_addr_conf_t, address, quic)
#else
unsigned
address_quic(const ngx_http_addr_conf_t *it)
{
    (void) it;
    return 0;
}
#endif
