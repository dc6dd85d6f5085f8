//! A world to test in (`clients/conformance/world.py`) as a child: marketplaces, a server and a proxy that cuts.

use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A running world.
pub struct World {
    facts: serde_json::Value,
    child: Child,
}

impl World {
    /// Starts one.
    pub async fn begin() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/world.py");
        let mut child = Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        assert!(!line.is_empty(), "the world did not come to be; its reason stands above");
        Self { facts: serde_json::from_str(&line).unwrap(), child }
    }

    /// Where something is: `url`, the proxy; `direct`, the server itself; `control`.
    pub fn at(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }

    /// Asks `control` for something, and fails when it refuses.
    #[allow(dead_code)] // of some tests only
    pub async fn order(&self, what: &str) -> String {
        let address = self.at("control").trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).await.unwrap();
        let head = format!("POST /{what} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some("200"), "{what}: {answer}");
        answer.rsplit("\r\n").next().unwrap().to_owned()
    }

    /// Ends everything.
    pub async fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().await.unwrap();
    }
}
