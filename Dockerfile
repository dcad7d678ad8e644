# Two images from one build: `postgres` (PostgreSQL 17, pg_cron and the extension) and `sidecar` (the rotator binary
# alone, not root). Debian's packages and crates are all that is fetched. How to build and run them: docs/image.md.
#   docker build --target postgres -t rotator-postgres .        docker build --target sidecar -t rotator .
# Releases are pinned by name; for builds that can be repeated to the byte pin both bases by digest as well.

ARG DEBIAN=trixie
ARG RUST=1.95

FROM docker.io/library/rust:${RUST}-slim-${DEBIAN} AS build
ARG PG=17
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential libclang-dev pkg-config postgresql-server-dev-${PG} tzdata \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY extension extension
COPY sidecar sidecar
COPY sql sql
COPY scripts scripts
# A member of the workspace that isn't built here.
COPY tests/Cargo.toml tests/
RUN mkdir tests/src && touch tests/src/lib.rs
# Cargo's downloads and output stay between builds; what the images need leaves for /out. Ours is compiled anew each time:
# cargo goes by the time of a file, and another checkout may come with older ones.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    touch extension/src/lib.rs sidecar/src/lib.rs sidecar/src/main.rs \
 && PG=${PG} scripts/build.sh \
 && PG=${PG} DESTDIR=/out/postgres scripts/install.sh \
 && install -D -m 755 target/release/rotator /out/sidecar/usr/local/bin/rotator
# All that the binary needs of a system: its libraries (with what scanners look for), certificates, time zones, a user.
RUN scripts/image/sidecar-root.sh /out/sidecar
COPY LICENSE /out/sidecar/usr/share/doc/rotator/
COPY LICENSE /out/postgres/usr/share/doc/rotator/


FROM docker.io/library/debian:${DEBIAN}-slim AS postgres
ARG PG=17
ARG VERSION=0.2.0
# Without a cluster of the package's own: the first start makes one in the volume.
RUN mkdir -p /etc/postgresql-common/createcluster.d \
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/rotator.conf \
 && apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates postgresql-${PG} postgresql-${PG}-cron tzdata \
 && rm -rf /var/lib/apt/lists/* /var/log/* /etc/ssl/private/ssl-cert-snakeoil.key \
 && mkdir -p /docker-entrypoint-initdb.d /etc/postgresql/conf.d \
 && install -d -o postgres -g postgres -m 700 /run/rotator
COPY --from=build /out/postgres /
COPY scripts/image/postgres.sh /usr/local/bin/rotator-postgres
COPY scripts/image/first-start.sh /docker-entrypoint-initdb.d/10-rotator.sh
COPY scripts/image/rotator.conf /etc/postgresql/rotator.conf
ENV PATH=/usr/lib/postgresql/${PG}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PGDATA=/var/lib/postgresql/${PG}/main \
    LANG=C.UTF-8
VOLUME /var/lib/postgresql
EXPOSE 5432
# Fast shutdown: sessions are ended, the data is written out.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["rotator-postgres", "healthcheck"]
ENTRYPOINT ["rotator-postgres"]
CMD ["postgres"]
LABEL org.opencontainers.image.title="rotator-postgres" \
      org.opencontainers.image.description="PostgreSQL with pg_cron and the rotator extension" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0 AND PostgreSQL"


FROM scratch AS sidecar
ARG VERSION=0.2.0
COPY --from=build /out/sidecar /
ENV PATH=/usr/local/bin \
    ROTATOR_LISTEN=0.0.0.0:8080 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /
# By number, so that a platform can see that it isn't root.
USER 10001:10001
EXPOSE 8080
# Finishes what is in flight, for 25 seconds at most.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["rotator", "healthcheck"]
ENTRYPOINT ["rotator"]
CMD ["serve"]
LABEL org.opencontainers.image.title="rotator" \
      org.opencontainers.image.description="rotator's sidecar: delivers reminders and answers their links" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
