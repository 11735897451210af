# syntax=docker/dockerfile:1
# An image with only ssegate: one static binary, no shell, an unprivileged user.
#
#   docker build -t ssegate .
#   docker run -p 8443:8443 -e REDIS_URL=redis://… -v ./gateway.yaml:/etc/ssegate/gateway.yaml:ro ssegate

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# git's files are not in the context: docker build --build-arg SSEGATE_COMMIT=$(git rev-parse HEAD) …
ARG SSEGATE_COMMIT
# Static. With --target, the flags do not apply to build scripts and procedural macros.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS='-C target-feature=+crt-static' \
       cargo build --profile dist --locked --bin ssegate --target "$target" \
    && install -D "target/$target/dist/ssegate" /out/usr/local/bin/ssegate \
    && install -D -m 0644 deploy/container.yaml /out/etc/ssegate/gateway.yaml \
    && install -d /state

# Has CA certificates, nsswitch.conf, and a user 65532.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/ /
# The directory of the self-signed certificate, and of the histories while the service restarts. A volume keeps it across containers, with this owner.
COPY --from=build --chown=65532:65532 /state /var/lib/ssegate
ENV STATE_DIRECTORY=/var/lib/ssegate
VOLUME /var/lib/ssegate
# `run` and `healthcheck` read gateway.yaml from the working directory.
WORKDIR /etc/ssegate
EXPOSE 8443 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/usr/local/bin/ssegate", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/ssegate"]
CMD ["run"]
