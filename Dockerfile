# One image with the four programs. The compose file says which one a container runs.
#
# Building needs Rust and a C compiler, nothing else: no protoc, no cmake, no OpenSSL.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive the build; what is wanted from them is copied out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --workspace --exclude countersign-benches --bins \
    && mkdir /out \
    && cp target/release/countersign target/release/issuer-service target/release/trust-service \
          target/release/exchange-gateway /out/

FROM debian:bookworm-slim
# The authorities that issuers' certificates are checked against.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A volume that is first mounted over a directory takes its owner from it, so that the init jobs can write as this user too.
RUN groupadd --system --gid 65532 countersign \
    && useradd --system --uid 65532 --gid countersign --home-dir /var/lib/countersign --shell /usr/sbin/nologin countersign \
    && install -d -o countersign -g countersign -m 0700 \
        /var/lib/countersign /var/lib/countersign/operator /var/lib/countersign/authority /var/lib/countersign/services \
        /var/lib/countersign/services/issuer-service /var/lib/countersign/services/trust-service \
        /var/lib/countersign/services/exchange-gateway /var/lib/countersign/services/postgres \
        /var/lib/countersign/services/redis /var/lib/countersign/files
COPY --from=build /out/ /usr/local/bin/
USER 65532:65532
WORKDIR /var/lib/countersign
STOPSIGNAL SIGTERM
CMD ["countersign", "--help"]
