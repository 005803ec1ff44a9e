# The image holds two static programs and nothing else.
#   docker build -t howdah:latest .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# .cargo/config.toml names the host as target and makes every program static.
RUN cargo build --release --locked --package howdah-operator --package howdah-instance-manager \
 && mkdir /out && cp target/*/release/operator target/*/release/instance-manager /out/

FROM scratch
COPY --from=build /out/operator /operator
COPY --from=build /out/instance-manager /instance-manager
USER 10001:10001
ENTRYPOINT ["/operator"]
