//! The sandbox alone: `cargo run --example sandbox -- 127.0.0.1:12111`.

use recurd::sandbox;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:12111".to_owned());
    sandbox::main(&listen, sandbox::Options::standalone()).await
}
