# The daemon in a small image: docker build -t recurd .
FROM rust:1-bookworm AS build
WORKDIR /src
# Dependencies first: they change seldom, and this layer keeps them built.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --locked --release --bin recurd \
    && rm -rf src
COPY . .
RUN touch src/main.rs src/lib.rs && cargo build --locked --release --bin recurd

FROM debian:bookworm-slim
# Root certificates: without them no TLS connection to Stripe can be checked.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65532 -g 65532 -m 700 /var/lib/recurd
COPY --from=build /src/target/release/recurd /usr/local/bin/recurd
USER 65532:65532
WORKDIR /var/lib/recurd
EXPOSE 8080
ENTRYPOINT ["recurd"]
CMD ["--help"]
