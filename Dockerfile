# syntax=docker/dockerfile:1
# One image for every role: `docker run tidemark ingest`, `docker run tidemark serve`, …

FROM rust:1.95-bookworm AS builder
WORKDIR /src
COPY . .
# What was downloaded and compiled before is kept between builds, so that a change compiles what it touches.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --package tidemark \
    && cp target/dist/tidemark /usr/local/bin/tidemark

FROM debian:bookworm-slim
# The folder is there before a volume is mounted on it, so that the volume belongs to whom it should.
RUN useradd --uid 10001 --no-create-home tidemark \
    && install --directory --owner tidemark /repo/data
COPY --from=builder /usr/local/bin/tidemark /usr/local/bin/tidemark
USER 10001
WORKDIR /repo
EXPOSE 6566 6567
ENTRYPOINT ["tidemark"]
CMD ["--help"]
