# SPDX-License-Identifier: Apache-2.0

# Each call of the module that can fail is made to fail, one at a time, and together with all calls after it. The
# result must be what was requested, or a refusal with a line in the log, and the worker must survive.
#
# With TEST_NGINX_TORTURE, each call fails often enough to see whether it leaks memory.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('curl', 'gcc', 'nginx', 'nm');

my $root   = project_root();
my $folder = test_folder();
my ($module) = $ENV{TEST_NGINX_LOAD_MODULES} =~ m{(\S+/ngx_http_kong_tls_module\.so)};

sub run {
    system(@_) == 0 or die "@_: status $?\n";
    return;
}

# ---- what can fail -------------------------------------------------------------------------------

run('gcc', '-O1', '-shared', '-fPIC', '-o', "$folder/faults.so", "$root/t/support/faults.c", '-ldl');
run('gcc', '-O1', '-DLIST', '-o', "$folder/list", "$root/t/support/faults.c", '-ldl');
chomp(my @functions = `$folder/list`);

# Calls that can't fail: what they return exists already, or is requested in a way that has no failure. And calls that
# are made while a configuration is read, which fail the configuration as a whole, and are tested with it.
my %cannot_fail = map { $_ => 1 } split ' ', <<'END';
ASN1_STRING_get0_data ASN1_STRING_length ASN1_STRING_type ASN1_TIME_free BIO_ctrl BIO_free_all BIO_s_mem
CRYPTO_free CRYPTO_get_ex_new_index CRYPTO_get_mem_functions CRYPTO_malloc EC_GROUP_get_curve_name EC_KEY_free EC_KEY_get0_group
ERR_get_error_all ERR_peek_last_error ERR_lib_error_string ERR_reason_error_string
EVP_MD_CTX_free EVP_EncodeBlock EVP_PKEY_free EVP_PKEY_get_bits EVP_PKEY_get_id EVP_sha256 GENERAL_NAME_free OBJ_nid2sn
OPENSSL_cleanse OPENSSL_init_ssl OPENSSL_sk_free OSSL_STORE_INFO_free OSSL_STORE_INFO_get1_PKEY OSSL_STORE_INFO_get_type
OSSL_STORE_close OSSL_STORE_eof OSSL_STORE_expect OSSL_STORE_load UI_get_default_method UI_set_default_method
OPENSSL_sk_num OPENSSL_sk_pop OPENSSL_sk_value OPENSSL_sk_zero OpenSSL_version OpenSSL_version_num
SHA256_Final SHA256_Init SHA256_Update
SSL_CIPHER_get_id SSL_CIPHER_get_name SSL_CTX_ctrl SSL_CTX_free SSL_CTX_get0_certificate SSL_CTX_get0_param
SSL_CTX_get_cert_store SSL_CTX_get_ciphers SSL_CTX_get_options SSL_CTX_get_security_level SSL_CTX_get_verify_mode SSL_CTX_get_client_cert_cb
SSL_CTX_get_ex_data SSL_CTX_get_info_callback SSL_CTX_get_verify_callback SSL_CTX_get_verify_depth
SSL_CTX_sess_get_get_cb SSL_CTX_sess_set_get_cb SSL_CTX_sessions SSL_CTX_set_alpn_select_cb
SSL_CTX_set_cert_store SSL_CTX_set_client_cert_cb SSL_CTX_set_ex_data SSL_CTX_set_info_callback
SSL_CTX_set_session_ticket_cb SSL_CTX_up_ref SSL_SESSION_free
SSL_SESSION_get0_hostname SSL_SESSION_get0_id_context SSL_SESSION_get0_peer SSL_SESSION_get0_ticket_appdata
SSL_SESSION_get_protocol_version SSL_SESSION_is_resumable SSL_certs_clear SSL_clear_options SSL_client_hello_get0_ext SSL_free
SSL_get0_param SSL_get1_peer_certificate SSL_get_SSL_CTX SSL_get_certificate SSL_get_client_CA_list
SSL_get_current_cipher SSL_get_ex_data SSL_get_options SSL_get_ex_data_X509_STORE_CTX_idx SSL_get_peer_cert_chain
SSL_get_servername SSL_get_session SSL_get_shutdown SSL_get_sigalgs SSL_peek SSL_set0_wbio
SSL_set_post_handshake_auth SSL_state_string SSL_get_verify_callback SSL_get_verify_mode SSL_get_verify_result
SSL_get_version SSL_has_pending SSL_is_server SSL_session_reused SSL_set0_CA_list SSL_set_cert_cb SSL_set_client_CA_list
SSL_set_info_callback SSL_set_not_resumable_session_callback SSL_set_options SSL_set_shutdown
SSL_set_verify SSL_set_verify_depth SSL_set_verify_result SSL_version TLS_method X509_CRL_free X509_CRL_get_ext X509_CRL_get_ext_by_NID X509_EXTENSION_get_data X509_CRL_get0_lastUpdate X509_CRL_get0_nextUpdate X509_LOOKUP_file
X509_NAME_ENTRY_get_data X509_NAME_free X509_NAME_get_entry
X509_NAME_get_index_by_NID X509_OBJECT_get0_X509 X509_OBJECT_get0_X509_CRL X509_OBJECT_get_type
X509_STORE_CTX_cleanup X509_STORE_CTX_free X509_STORE_CTX_get0_cert X509_STORE_CTX_get0_chain X509_STORE_CTX_get0_param X509_STORE_CTX_get0_store X509_STORE_CTX_get0_untrusted
X509_STORE_CTX_get_current_cert X509_STORE_CTX_get_error X509_STORE_CTX_get_error_depth
X509_STORE_CTX_get_ex_data X509_STORE_CTX_set_cert X509_STORE_CTX_set_current_cert
X509_STORE_CTX_set0_crls X509_STORE_CTX_set_error X509_STORE_CTX_set_verify_cb X509_STORE_free
X509_STORE_get0_objects X509_STORE_get0_param X509_STORE_set_verify_cb X509_VERIFY_PARAM_get_depth
X509_VERIFY_PARAM_get_flags X509_VERIFY_PARAM_set_auth_level X509_VERIFY_PARAM_set_depth
X509_VERIFY_PARAM_set_time X509_check_issued X509_free X509_get_issuer_name X509_get_serialNumber
X509_get_subject_name
X509_getm_notAfter X509_getm_notBefore X509_verify_cert_error_string
TLS_client_method TLS_server_method X509_LOOKUP_get_store 
X509_LOOKUP_meth_set_get_by_subject X509_OBJECT_retrieve_by_subject
X509_STORE_get_ex_data X509_STORE_lock X509_STORE_unlock X509_VERIFY_PARAM_get_auth_level
X509_VERIFY_PARAM_get_hostflags X509_VERIFY_PARAM_get_time X509_get0_signature X509_get_default_cert_dir
X509_get_default_cert_dir_env X509_get_default_cert_file X509_get_default_cert_file_env X509_get_ex_data
X509_subject_name_hash
ACCESS_DESCRIPTION_free ASN1_GENERALIZEDTIME_free DIST_POINT_free EVP_sha1 OBJ_find_sigid_algs OBJ_obj2nid OCSP_BASICRESP_free
OCSP_BASICRESP_get_ext_by_NID OCSP_BASICRESP_get_ext_by_critical OCSP_CERTID_free OCSP_REQUEST_free OCSP_RESPONSE_free
OCSP_check_nonce OCSP_resp_get0_tbs_sigalg OCSP_resp_find_status OCSP_response_status X509_ALGOR_get0 X509_CRL_get0_by_serial
EVP_Q_digest X509_CRL_get_ext_by_NID X509_CRL_get_issuer X509_CRL_get_signature_nid X509_NAME_cmp X509_EXTENSION_get_data X509_CRL_get_REVOKED X509_NAME_entry_count X509_REVOKED_get0_serialNumber
X509_REVOKED_get_ext X509_REVOKED_get_ext_by_NID X509_get_ext X509_get_ext_by_NID
ngx_array_push ngx_cached_time ngx_close_connection ngx_conf_full_name ngx_conf_log_error ngx_current_msec
ngx_cycle ngx_destroy_pool ngx_event_timer_rbtree ngx_exiting ngx_hash_find_combined ngx_hash_key
ngx_http_add_variable ngx_http_compile_complex_value ngx_http_discard_request_body ngx_http_headers_in
ngx_http_upstream_get_round_robin_peer ngx_http_upstream_init_round_robin ngx_rwlock_rlock ngx_rwlock_unlock ngx_rwlock_wlock
ngx_http_core_module ngx_http_get_variable_index ngx_http_lua_add_package_preload ngx_http_lua_ffi_get_phase ngx_http_lua_get_global_state
ngx_http_module
ngx_log_error_core ngx_pagesize ngx_parse_size ngx_parse_time ngx_rbtree_delete ngx_rbtree_insert ngx_shared_memory_add
ngx_shmtx_lock ngx_shmtx_unlock ngx_slab_alloc ngx_ssl_connection_index ngx_ssl_shutdown ngx_terminate
END

my %can_fail = map { $_ => 1 } @functions;
my @called = map { (split)[1] =~ s/@.*//r } split /^/, `nm -D --undefined-only $module`;
my @unknown = grep { /^(?:ngx_|[A-Z]|[id]2[aid]_)/ && !$can_fail{$_} && !$cannot_fail{$_} } @called;
is "@unknown", '', q{each function that the module calls is listed as one that can fail, or can't};

# ---- a gateway with faults -----------------------------------------------------------------------

my $pki = $ENV{TEST_NGINX_PKI};

# Returns the pin of the key in a certificate.
sub pin {
    my ($certificate) = @_;
    my $said = `openssl x509 -in $pki/$certificate.crt -noout -pubkey | openssl pkey -pubin -outform DER |
        openssl dgst -sha256 -binary | base64`;
    chomp $said;
    return $said;
}

sub service {
    my ($name, $certificate, $more) = @_;
    return <<"_EOC_";
    server {
        listen unix:$folder/$name.sock ssl;
        ssl_certificate $pki/$certificate.crt;
        ssl_certificate_key $pki/$certificate.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $pki/ca.crt;
        @{[$more // '']}
        return 200 "client=\$ssl_client_s_dn\\n";
    }
_EOC_
}

# Answers about a certificate, and what says so.
my ($answers_port) = free_ports(1);
{
    my ($serial) = `openssl x509 -in $pki/client1.crt -noout -serial` =~ /=(\w+)/;
    write_to("$folder/index", "V\t491231000000Z\t\t$serial\tunknown\t/CN=client-1\n");
    write_to("$folder/revoked-index", "R\t491231000000Z\t260101000000Z\t$serial\tunknown\t/CN=client-1\n");
    my $list = "[ca]\ndefault_ca=it\n[it]\ndatabase=$folder/revoked-index\ndefault_md=sha256\n";
    write_to("$folder/list.conf", $list);
    my $made = `openssl ocsp -issuer $pki/ca.crt -cert $pki/client1.crt -no_nonce -reqout $folder/request 2>&1`;
    for my $index ('', 'revoked-') {
        $made .= `openssl ocsp -index $folder/${index}index -CA $pki/ca.crt -rsigner $pki/ca.crt -rkey $pki/ca.key \\
            -reqin $folder/request -respout $folder/${index}answer -ndays 1 2>&1`;
        die $made if $?;
    }
    chmod 0644, "$folder/answer", "$folder/revoked-answer";
}

start_nginx('services', http => service('right', 'service') . service('wrong', 'service-other')
    . service('svid', 'service-uri') . service('forged', 'svid-forged') . service('authority', 'svid-authority')
    . service('signer', 'svid-signer') . <<"_EOC_"
    server {
        listen 127.0.0.1:$answers_port;
        root $folder;
        # Files are for GET.
        error_page 405 =200 \$uri;
    }
_EOC_
    . service('rsa', 'service', 'ssl_conf_command ClientSignatureAlgorithms RSA-PSS+SHA256:RSA+SHA256;'));

# The size of `struct control`.
my $size = 8 + 4 + 8000;
write_to("$folder/control", "\0" x $size);
open my $control, '+<:raw', "$folder/control" or die $!;
chmod 0666, "$folder/control";

# A certificate with an alternative name beside its common name.
my $said = `openssl req -x509 -new -key $pki/client1.key -CA $pki/ca.crt -CAkey $pki/ca.key -days 30 \\
    -subj /O=Test/CN=client-1 -addext subjectAltName=URI:spiffe://test/alice -addext extendedKeyUsage=clientAuth \\
    -out $folder/named.crt 2>&1`;
die $said if $?;

my @http2 = http2_server();

# Each request creates everything anew, so that nothing is found in a cache.
# glibc fills memory with this byte when it is allocated and when it is freed, so that nothing uninitialised looks valid.
my %environment = (LD_PRELOAD => "$folder/faults.so", FAULTS => "$folder/control", MALLOC_PERTURB_ => 85);
start_nginx('gateway', modules => 1, log => 'warn', main => 'env FAULTS;', environment => \%environment, http => <<"_EOC_");
    lua_ssl_verify_depth 3;
    # Soon full: what is kept on purpose is no leak.
    kong_tls_session_cache shared:kong_tls:32k;
    lua_shared_dict revocation 1m;
    init_by_lua_block {
        kong, tls, x509 = require "resty.kong.pdk", require "resty.kong.tls", require "resty.kong.x509"
        ssl = require "ngx.ssl"
        ffi = require "ffi"
        ffi.cdef [[
            struct mallinfo2 { size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost; };
            struct mallinfo2 mallinfo2(void);
        ]]
        local pki = require "pki"
        function read(name) return pki.read("$pki/" .. name) end
        function chain(name) return pki.chain("$pki/" .. name) end
        function key(name) return pki.key("$pki/" .. name) end
        function must(done, err)
            if not done then
                ngx.log(ngx.ERR, "refused: ", err)
                ngx.exit(ngx.HTTP_INTERNAL_SERVER_ERROR)
            end
            return done
        end
        -- For handshakes.
        function must_shake(done, err)
            if not done then
                ngx.log(ngx.ERR, "refused: ", err)
                ngx.exit(ngx.ERROR)
            end
        end
        -- Returns another number each time.
        local last = 0
        function number()
            last = last + 1
            return last
        end
        -- Makes a text unique, so that no other object is made of it.
        function anew(text)
            return text .. "\\n" .. number() .. "\\n"
        end
        package.loaded["resty.kong.plugins.bounded"] = { new = function()
            return { get = function() end, set = function() end, size = function() end }
        end }
        -- Makes options unique, too.
        function options_anew()
            local n = number()
            return { min_version = "TLSv1.2", max_version = n % 2 == 0 and "TLSv1.3" or "TLSv1.2",
                     ciphers = (":"):rep(n % 40) .. "HIGH" .. (" "):rep(math.floor(n / 40) % 40),
                     ciphersuites = "TLS_AES_128_GCM_SHA256", groups = "P-256", signature_algorithms = "ECDSA+SHA256" }
        end
        -- The first matching field decides which consumer it is.
        mtls_auth = assert(require("resty.kong.plugins.mtls_auth").new {
            { names = { "mtls.test" }, ca = { file = "$pki/ca.crt" },
              consumers = { { name = "alice", fingerprint = x509.chain(read("client1.crt"))[1]:fingerprint() },
                            { name = "mallory", common_name = "client-1" } } },
            { names = { "names.test" }, ca = { file = "$pki/ca.crt" },
              consumers = { { name = "alice", uri = "spiffe://test/alice" }, { name = "mallory", common_name = "client-1" } } } })
    }
    upstream right { server unix:$folder/right.sock; kong_tls_keepalive 4; }
    upstream rsa { server unix:$folder/rsa.sock; }
    upstream wrong { server unix:$folder/wrong.sock; kong_tls_keepalive 4; }
    add_header X-Worker \$pid always;
    proxy_ssl_name service.test;
    proxy_ssl_server_name on;

    server {
        listen unix:$folder/gateway.sock;
        location /set/ {
            access_by_lua_block {
                must(kong.service.set_tls_cert_key(chain("client1"), key("client1")))
                must(kong.service.set_tls_verify(true))
                must(kong.service.set_tls_verify_depth(3))
                must(kong.service.set_tls_verify_store(must(x509.store {
                    pem = anew(read("ca.crt")), crl = read("empty.crl") })))
                must(kong.service.set_tls_server_name("service.test"))
                must(kong.service.set_tls_pins { spki = { "@{[pin('service')]}", "@{[pin('service-other')]}" } })
                -- Another identity each time, and so another connection and session.
                must(tls.set_upstream_ssl_sans_dnsnames { "service.test", "n" .. number() .. ".test" })
            }
            location /set/right { proxy_pass https://right; }
            location /set/wrong { proxy_pass https://wrong; }
        }
        location /spiffe/ {
            access_by_lua_block {
                must(kong.service.set_tls_cert_key(chain("client1"), key("client1")))
                must(kong.service.set_tls_options(options_anew()))
                must(kong.service.set_tls_verify_spiffe {
                    trust_domains = { test = must(x509.store { pem = anew(read("ca.crt")) }),
                                      ["other.test"] = must(x509.store { pem = anew(read("other-ca.crt")) }) },
                    ids = { "spiffe://other.test/*", "spiffe://test/n" .. number(), "spiffe://test/ns/one" } })
            }
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            location /spiffe/svid { proxy_pass https://unix:$folder/svid.sock; }
            location /spiffe/forged { proxy_pass https://unix:$folder/forged.sock; }
            location /spiffe/authority { proxy_pass https://unix:$folder/authority.sock; }
            location /spiffe/signer { proxy_pass https://unix:$folder/signer.sock; }
        }
        location /nothing { proxy_pass https://right; }
        location /rsa {
            access_by_lua_block { must(kong.service.set_tls_cert_key(chain("client1"), key("client1"))) }
            proxy_pass https://rsa;
        }
        # Each depth is another identity. There are more of them than sessions that a worker keeps decoded.
        location /depth {
            access_by_lua_block { must(kong.service.set_tls_verify_depth(tonumber(ngx.var.arg_depth))) }
            add_header X-Reused \$kong_upstream_ssl_session_reused always;
            proxy_pass https://rsa;
        }
        location /required {
            kong_tls_required on;
            set \$there https://unix:$folder/right.sock:;
            access_by_lua_block {
                if ngx.var.arg_set then
                    must(kong.service.set_tls_cert_key(chain("client1"), key("client1")))
                end
            }
            proxy_pass \$there;
        }
        location /kept {
            kong_tls_keepalive 4;
            set \$there unix:$folder/right.sock:;
            access_by_lua_block { must(kong.service.set_tls_cert_key(chain("client1"), key("client1"))) }
            proxy_pass https://\$there;
        }
        location /target {
            access_by_lua_block {
                kong.service.set_target("unix-is-no-host", 1)
                kong.service.set_timeouts(5000, 5000, 5000)
                must(kong.service.set_upstream("right"))
                must(kong.service.set_tls_cert_key(chain("client2"), key("client2")))
            }
            add_header X-Verify \$kong_upstream_ssl_verify;
            add_header X-Identity \$kong_upstream_ssl_identity;
            proxy_pass https://\$kong_upstream_target;
        }
        location /x509 {
            content_by_lua_block {
                local list = must(x509.chain(anew(read("client1.crt"))))
                local of = must(x509.key(anew(read("client1.key"))))
                local store = must(x509.store { pem = anew(read("ca.crt")), crl = read("empty.crl") })
                local ok = must(store:verify(list, { purpose = "clientAuth", depth = 3 }))
                local other = store:verify(must(x509.chain(anew(read("client-other.crt")))))
                    or store:verify(must(x509.chain(anew(read("service.crt")))), { purpose = "clientAuth" })
                local certificate = must(list[1])
                ngx.say(tostring(ok), " ", tostring(other), " ", tostring(must(of:belongs_to(list), "another key")), " ", must(certificate.subject, "no subject"),
                        " ", must(certificate.common_name), " ", #must(certificate:fingerprint()), " ",
                        must(certificate.serial) ~= "", " ", certificate.not_after > certificate.not_before)
            }
        }
        # Asks whether the client's certificate is revoked.
        location /asked/ {
            access_by_lua_block {
                ngx.shared.revocation:flush_all()
                local plugin = must(require("resty.kong.plugins.header_cert_auth").new {
                    header = "X-Client-Cert", encoding = "url", trusted = { "unix:" }, ca = { file = "$pki/ca.crt" },
                    consumers = { { name = "alice", common_name = "client-1" } }, revocation_check_mode = "STRICT",
                    revocation_dict = "revocation", ocsp_responder = "http://127.0.0.1:$answers_port" .. ngx.var.uri:sub(7) })
                ngx.req.set_header("X-Client-Cert", ngx.escape_uri(read("client1.crt")))
                plugin:access()
            }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"]) }
            # The plugin logs why at a level that is not logged here.
            log_by_lua_block { if ngx.status == 401 then ngx.log(ngx.WARN, ngx.var.kong_client_verify) end }
        }
        location /status { kong_tls_status; }
        # The number of allocated bytes, without those of Lua.
        location /heap {
            content_by_lua_block {
                collectgarbage()
                collectgarbage()
                local info = ffi.C.mallinfo2()
                ngx.say(tonumber(info.uordblks + info.hblkhd))
            }
        }
    }

    server {
        listen unix:$folder/gateway-tls.sock ssl$http2[0];
        $http2[1]
        ssl_certificate $pki/gateway.crt;
        ssl_certificate_key $pki/gateway.key;
        ssl_session_cache shared:sessions:16m;
        ssl_client_hello_by_lua_block {
            if require("ngx.ssl.clienthello").get_client_hello_server_name() == "plain.test" then
                must_shake(kong.client.tls.disable_http2_alpn())
            end
        }
        ssl_certificate_by_lua_block {
            local name = ssl.server_name()
            if name == "mtls.test" or name == "names.test" then
                return mtls_auth:certificate()
            end
            must_shake(kong.client.tls.request_client_certificate(chain("ca"), { names = { "names." .. (name or "none") } }))
            if name == "once.test" then
                must_shake(kong.client.tls.disable_session_reuse())
            end
        }
        location / {
            access_by_lua_block { mtls_auth:access() }
            content_by_lua_block {
                local pem, err = kong.client.tls.get_full_client_certificate_chain()
                if err then must(nil, err) end
                ngx.say(ngx.req.http_version(), " ", must(ngx.var.kong_client_verify, "no variable"), " ", pem and #pem > 500 and "chain" or "none",
                        " ", ngx.var.ssl_session_reused, " ", ngx.var.http_x_consumer_username or "nobody",
                        " ", ngx.var.http_x_client_cert_dn or "-")
            }
        }
    }

    server {
        listen unix:$folder/gateway-builtin.sock ssl;
        ssl_certificate $pki/gateway.crt;
        ssl_certificate_key $pki/gateway.key;
        ssl_session_cache builtin:100;
        ssl_session_tickets off;
        ssl_certificate_by_lua_block {
            must_shake(kong.client.tls.request_client_certificate(chain("ca")))
        }
        return 200 "\$ssl_client_verify \$ssl_session_reused\n";
    }
_EOC_

sub arm {
    my ($first, $last) = @_;
    sysseek $control, 0, 0;
    syswrite $control, pack 'L3', $first, $last, 0;
    return;
}

# Returns the names of the calls that were made.
sub calls {
    sysseek $control, 8, 0;
    sysread $control, my $text, $size - 8;
    my ($count, @calls) = unpack "L C8000", $text;
    return map { $functions[$_] } @calls[0 .. ($count < 8000 ? $count : 8000) - 1];
}

my @curl = ('curl', '-s', '--max-time', 60, '-w', '%{http_code} %header{x-worker}\n');
my @tls  = ("--unix-socket $folder/gateway-tls.sock", "--cacert $pki/ca.crt", '--insecure');

sub with { my ($name) = @_; return "--cert $pki/$name.crt --key $pki/$name.key" }

# The name, the request, and the right answer beside a refusal: undef where only a refusal is right.
my @scenarios = (
    ['certificate, verification, depth, store and names', "--unix-socket $folder/gateway.sock http://x/set/right",
        qr/\Aclient=CN=client-1,O=Test\n200 /],
    ['the same with a service that fails verification', "--unix-socket $folder/gateway.sock http://x/set/wrong", undef],
    ['a SPIFFE ID and options of TLS', "--unix-socket $folder/gateway.sock http://x/spiffe/svid",
        qr/\Aclient=CN=client-1,O=Test\n200 /],
    ['a SPIFFE ID, signed by the CA of another trust domain', "--unix-socket $folder/gateway.sock http://x/spiffe/forged",
        undef],
    ['a SPIFFE ID of an authority', "--unix-socket $folder/gateway.sock http://x/spiffe/authority", undef],
    ['a SPIFFE ID of one that signs lists', "--unix-socket $folder/gateway.sock http://x/spiffe/signer", undef],
    ['set_upstream, set_timeouts, variables', "--unix-socket $folder/gateway.sock http://x/target",
        qr/\Aclient=CN=client-2,O=Test\n200 /],
    ['a certificate that can not be presented', "--unix-socket $folder/gateway.sock http://x/rsa", undef],
    ['sessions that are read from the zone',
        CORE::join(' ', "--unix-socket $folder/gateway.sock", map {"http://y/depth?depth=$_"} 1 .. 6), qr/\Aclient=\n200 /],
    ['kong_tls_required, with settings', "--unix-socket $folder/gateway.sock http://x/required?set=1",
        qr/\Aclient=CN=client-1,O=Test\n200 /],
    ['kong_tls_required, without settings', "--unix-socket $folder/gateway.sock http://x/required", undef],
    ['a target that is in no block', "--unix-socket $folder/gateway.sock http://x/kept", qr/\Aclient=CN=client-1,O=Test\n200 /],
    ['no settings', "--unix-socket $folder/gateway.sock http://x/nothing", qr/\Aclient=\n200 /],
    ['certificates and stores in Lua', "--unix-socket $folder/gateway.sock http://x/x509",
        qr/\Atrue nil true CN=client-1,O=Test client-1 64 true true\n200 /],
    ['an OCSP answer: good', "--unix-socket $folder/gateway.sock http://x/asked/answer", qr/\Aalice\n200 /],
    ['an OCSP answer: revoked', "--unix-socket $folder/gateway.sock http://x/asked/revoked-answer", undef],
    ['kong_tls_status', "--unix-socket $folder/gateway.sock http://x/status", qr/\A\{.*\}\n200 /s],
    ['kong_tls_status as a page', "--unix-socket $folder/gateway.sock http://x/status?format=html",
        # An argument that is not found is JSON.
        qr/\A(?:<!DOCTYPE html>.*<\/html>|\{.*\})\n200 /si],
    ['a client with a requested certificate', "@tls @{[with('client1')]} https://asked.test/",
        qr/\A2 SUCCESS chain \. nobody -\n200 /],
    ['a client without the requested certificate', "@tls https://asked.test/", qr/\A2 NONE none \. nobody -\n200 /],
    ['a client with a certificate of another CA', "@tls @{[with('client-other')]} https://asked.test/",
        qr/\A2 FAILED:\S.* chain \. nobody -\n200 /],
    ['a client that resumes',
        "@tls --http1.1 -H Connection:close @{[with('client1')]} https://asked.test/ https://asked.test/",
        qr/\A1\.1 SUCCESS chain [.r] nobody -\n200 /],
    ['the same with the builtin cache',
        "--unix-socket $folder/gateway-builtin.sock --cacert $pki/ca.crt --insecure --http1.1 "
        . "-H Connection:close @{[with('client1')]} https://asked.test/ https://asked.test/", qr/\ASUCCESS [.r]\n200 /],
    ['a client and another name that counts', "@tls @{[with('client1')]} -H Host:names.asked.test https://asked.test/",
        qr/\A2 SUCCESS chain \. nobody -\n200 /],
    ['a client and another name that does not count',
        "@tls @{[with('client1')]} -H Host:other.test https://asked.test/", undef],
    ['forged consumer headers',
        "@tls -H X-Consumer-Username:alice -H X-A:b -H X-Client-Cert-DN:c -H X-B:c https://asked.test/",
        qr/\A2 NONE none \. nobody -\n200 /],
    ['disable_session_reuse',
        "@tls --http1.1 -H Connection:close @{[with('client1')]} https://once.test/ https://once.test/",
        qr/\A1\.1 SUCCESS chain \. nobody -\n200 /],
    ['disable_http2_alpn', "@tls --http2 @{[with('client1')]} https://plain.test/",
        qr/\A1\.1 SUCCESS chain \. nobody -\n200 /],
    ['mtls_auth', "@tls @{[with('client1')]} https://mtls.test/",
        qr/\A2 SUCCESS chain \. alice CN=client-1,O=Test\n200 /],
    ['mtls_auth by an alternative name', "@tls --cert $folder/named.crt --key $pki/client1.key https://names.test/",
        qr/\A2 SUCCESS chain \. alice CN=client-1,O=Test\n200 /],
    ['mtls_auth without a certificate', "@tls https://mtls.test/", undef],
    ['mtls_auth with a certificate of another CA', "@tls @{[with('client-other')]} https://mtls.test/", undef],
);

# A refusal: an error of the gateway, or no answer at all.
my $refused = qr/\A(?:<html>.*)?(?:000|4\d\d|5\d\d) \d*\n\z/s;

# Returns what curl prints for a request: the answer, its status, and the worker.
sub ask {
    my ($request) = @_;
    if ($request !~ m{ http://x(/\S*)\z}) {
        my $answer = `@{[CORE::join ' ', map {"'$_'"} @curl]} $request 2>/dev/null`;
        return $? >> 8 == 28 ? "hangs\n" : $answer;
    }

    # Requests without TLS need no curl.
    my ($status, $headers, $body) = http_get("$folder/gateway.sock", $1);
    # A request that hangs is no refusal.
    return "hangs\n" if $status eq 'hangs';
    return "000 \n" if !defined $body;
    my ($by) = $headers =~ /^X-Worker: (\d+)/m;
    return "$body$status " . ($by // '') . "\n";
}

my $workers = qr/^\d+ (\d+)$/m;
my ($worker) = ask($scenarios[3][1]) =~ $workers or die 'the gateway does not answer';
my $tried = 0;
my %seen;

# Returns the answers in what curl has printed for one request, or for several.
sub answers { my ($printed) = @_; return $printed =~ /((?:(?!\d{3} \d*$).*\n)*\d{3} \d*\n)/mg }

# Returns whether each answer is the right one.
sub is_right {
    my ($printed, $right) = @_;
    my @answers = answers($printed);
    return @answers && !grep { defined $right ? $_ !~ $right : $_ !~ $refused } @answers;
}

# Returns whether each answer is the right one, or a refusal.
sub is_good {
    my ($printed, $right) = @_;
    my @answers = answers($printed);
    return @answers && !grep { $_ !~ $refused && !(defined $right && $_ =~ $right) } @answers;
}

sub heap { return ask("--unix-socket $folder/gateway.sock http://x/heap") =~ /\A(\d+)\n200 / ? $1 : die "no heap\n" }

# Returns the number of bytes that this many requests leave behind, each with this fault.
sub left_behind {
    my ($request, $call, $count) = @_;
    my $before = heap();
    for (1 .. $count) {
        arm($call, $call);
        ask($request);
    }
    arm(0, 0);
    return heap() - $before;
}

# Failures that nginx does not treat as errors, and does not log.
my $silent = qr/\Angx_http_(?:send_header|output_filter) /;

for my $scenario (@scenarios) {
    my ($name, $request, $right) = @$scenario;
    my @problems;

    # Sends the request twice: what is created once is not created again.
    ask($request);
    arm(0, 0);
    my $answer = ask($request);
    my @calls = calls();
    ok is_right($answer, $right), "$name: the answer without faults is right" or diag $answer;
    $seen{$_}++ for @calls;

    my $count = @calls;
    for my $call (1 .. $count) {
        for my $last ($call, 0xffff_ffff) {
            my $what = "$calls[$call - 1] (call $call)" . ($last == $call ? '' : ' and all that follow');
            my $log = -s "$folder/gateway.log";
            arm($call, $last);
            $answer = ask($request);
            arm(0, 0);
            $tried++;
            push @problems, "$what: $answer" if !is_good($answer, $right);

            my ($now) = $answer =~ $workers ? $1 : ask($scenarios[3][1]) =~ $workers;
            if (($now // 'none') ne $worker) {
                push @problems, "$what: another worker";
                $worker = $now // 'none';
            }
            push @problems, "$what: no line in the log, for $answer"
                if defined $right && !is_right($answer, $right) && $what !~ $silent && -s "$folder/gateway.log" == $log;
        }
    }
    is CORE::join("\n", @problems), '', "$name: each fault in $count calls leads to the right answer, or to a refusal";

    if ($ENV{TEST_NGINX_TORTURE}) {
        my @leaks;
        my $times = 20;
        # Call 0 is no call.
        for my $call (0 .. $count) {
            my @left;
            # What is left to be found again is in a cache, which is full at some time, and has entries of different
            # sizes. Each request leaks the same again. The smallest piece of malloc has 16 bytes.
            do { push @left, left_behind($request, $call, $times) } until $left[-1] < 16 * $times || @left == ($call ? 20 : 200);
            push @leaks, ($call ? $calls[$call - 1] : 'no fault') . " (call $call): @left bytes in $times requests each"
                if $left[-1] >= 16 * $times;
        }
        is CORE::join("\n", @leaks), '', "$name: no memory is leaked";
    }

    my $again = ask($request);
    ok is_right($again, $right), "$name: the answer is right again after the faults"
        or diag $again;
}

note "$tried faults";
note 'functions that failed: ', CORE::join ' ', sort keys %seen;
note 'functions that were not called: ', CORE::join ' ', grep { !$seen{$_} } @functions;
my $log = slurp("$folder/gateway.log");
# The openssl crate asserts that it could take a reference, which always succeeds.
is CORE::join('', grep { /\[(?:alert|emerg)\]|\[crit\].*internal error/ && !/internal error: assertion failed: r == 1/ }
    split /^/, $log), '', 'no alerts';
# nginx would say so after the handshake, in which the service gets the client's certificate.
unlike $log, qr{verify error: \(63:.*"GET /spiffe/(?!svid )}, 'whoever must have a SPIFFE ID is refused in the handshake';
done_testing();
