# An nginx with the module, ready to show what the module does.
#
#     docker build -t kong-tls .
#     docker run --rm -p 8443:8443 kong-tls
#     curl -k --connect-to ::127.0.0.1:8443 'https://gateway.test/certificate?name=client1'
#
# nginx-conf/demo.conf says what else can be asked. Debian's own configuration in /etc/nginx loads the
# module too; to run that, or another one put in its place:
#
#     docker run --rm -p 8080:80 kong-tls nginx -g 'daemon off;'

FROM rust:1-bookworm AS build
WORKDIR /src

# Apart from the sources, so that a change of those does not install everything again. scripts/build
# finds in the same way what it needs and this does not name.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libclang-dev libnginx-mod-http-lua libssl-dev nginx nginx-dev openssl pkg-config \
    && rm -rf /var/lib/apt/lists/*

COPY . .
RUN ./scripts/build

# Throw-away certificates for the demo: whoever has the image has the keys.
RUN ./scripts/pki /demo/pki

# Debian 12 again: nginx takes a module only if it was built for the same version of nginx.
FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends libnginx-mod-http-lua nginx \
    && rm -rf /var/lib/apt/lists/*

COPY --from=build /src/objs/ngx_http_kong_tls_module.so /usr/lib/nginx/modules/
# The Lua module's file is 50-mod-http-lua.conf: ours must be read after it.
RUN echo 'load_module modules/ngx_http_kong_tls_module.so;' \
        >/etc/nginx/modules-enabled/60-mod-http-kong-tls.conf \
    && nginx -t

WORKDIR /demo
COPY --from=build /demo/pki pki
COPY nginx-conf/demo.conf nginx-conf/demo-service.conf ./
RUN sed -i 's/@LISTEN@/8443/' demo.conf \
    && mkdir logs tmp \
    && ln -s /usr/lib/nginx/modules modules \
    && ln -s /dev/stdout logs/gateway-access.log \
    && ln -s /dev/stderr logs/gateway-error.log \
    && nginx -p . -t -c demo-service.conf \
    && nginx -p . -t -c demo.conf

EXPOSE 8443
STOPSIGNAL SIGQUIT
# The services behind the gateway go to the background, the gateway stays in front. When it ends,
# their sockets are left over, and nginx would not start again on those.
CMD ["sh", "-c", "rm -f *.sock && nginx -p . -c demo-service.conf && exec nginx -p . -c demo.conf -g 'daemon off;'"]
