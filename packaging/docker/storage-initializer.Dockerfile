# A storage initializer for KServe: the program, a shell, and the script that
# translates between them. Build it after the other, from the root of the repository:
#
#   docker build -f packaging/docker/storage-initializer.Dockerfile --build-arg BASE=hf-cache-sync -t hf-cache-sync-kserve .
ARG BASE=ghcr.io/hf-cache-sync/hf-cache-sync:latest
FROM ${BASE} AS base

FROM busybox:stable-musl
COPY --from=base / /
COPY packaging/docker/storage-initializer.sh /usr/bin/storage-initializer
ENV HOME=/tmp
USER 65532:65532
ENTRYPOINT ["/bin/sh", "/usr/bin/storage-initializer"]
