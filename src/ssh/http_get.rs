//! One plain HTTP request to a machine: whether its API answers. Follows nothing, keeps nothing, reads a status line.

use super::{dial, failure};
use crate::domain::ids::clip;
use crate::ports::{ApiTarget, ProbeFailure, ProbeFailureKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// The most that is read until the end of the status line, bytes.
const LONGEST_LINE: usize = 1024;

/// Asks, and gives the status of the answer.
pub(super) async fn status(target: &ApiTarget, connect: Duration, answer: Duration) -> Result<u16, ProbeFailure> {
    let stream = dial(&target.host, target.port, target.allow_private, connect).await?;
    match timeout(answer, ask(stream, target)).await {
        Ok(result) => result,
        Err(_) => Err(failure(ProbeFailureKind::Timeout, &format!("connected, but no answer within {answer:?}"))),
    }
}

async fn ask(mut stream: tokio::net::TcpStream, target: &ApiTarget) -> Result<u16, ProbeFailure> {
    let broke = |e: std::io::Error| failure(ProbeFailureKind::Broken, &format!("the connection broke: {e}"));
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}:{}\r\nUser-Agent: gpu-shopper\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        target.path, target.port
    );
    stream.write_all(request.as_bytes()).await.map_err(broke)?;
    let mut line = Vec::new();
    let mut part = [0; 256];
    while !line.contains(&b'\n') && line.len() < LONGEST_LINE {
        match stream.read(&mut part).await.map_err(broke)? {
            0 => break,
            n => line.extend_from_slice(&part[..n]),
        }
    }
    let text = String::from_utf8_lossy(&line);
    let first = text.lines().next().unwrap_or_default();
    let code = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split_ascii_whitespace().nth(1)?.parse::<u16>().ok());
    code.filter(|code| (100..600).contains(code))
        .ok_or_else(|| failure(ProbeFailureKind::Broken, &format!("what answers does not speak HTTP: {}", clip(first, 80))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What one request to a server that says this comes to.
    async fn asked(says: &'static str, allow_private: bool) -> Result<u16, ProbeFailureKind> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 1024];
            let n = stream.read(&mut heard).await.unwrap();
            if says == "…" {
                std::future::pending::<()>().await;
            }
            stream.write_all(says.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&heard[..n]).into_owned()
        });
        let target = ApiTarget { host: "127.0.0.1".to_owned(), port, path: "/v1/models", allow_private };
        let found = status(&target, Duration::from_secs(2), Duration::from_millis(300)).await;
        if found.is_ok() {
            let heard = server.await.unwrap();
            assert!(heard.starts_with("GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:"), "{heard}");
        } else {
            server.abort();
        }
        found.map_err(|f| f.kind)
    }

    /// An answer that points elsewhere is an answer; nobody goes there.
    #[tokio::test]
    async fn redirects_are_not_followed() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/latest/meta-data\r\n\r\n", elsewhere.local_addr().unwrap());
        assert_eq!(asked(answer.leak(), true).await, Ok(302));
        assert!(timeout(Duration::from_millis(50), elsewhere.accept()).await.is_err(), "somebody came");
    }

    #[tokio::test]
    async fn what_answers_without_end_is_not_read_without_end() {
        assert_eq!(asked("x".repeat(1 << 20).leak(), true).await, Err(ProbeFailureKind::Broken));
    }

    #[tokio::test]
    async fn statuses_are_read_and_all_else_is_told_apart() {
        assert_eq!(asked("HTTP/1.1 200 OK\r\n\r\n{}", true).await, Ok(200));
        assert_eq!(asked("HTTP/1.0 503 Loading\r\n\r\n", true).await, Ok(503));
        assert_eq!(asked("SSH-2.0-OpenSSH_9.6\r\n", true).await, Err(ProbeFailureKind::Broken));
        assert_eq!(asked("", true).await, Err(ProbeFailureKind::Broken));
        assert_eq!(asked("…", true).await, Err(ProbeFailureKind::Timeout));
        assert_eq!(asked("HTTP/1.1 200 OK\r\n\r\n", false).await, Err(ProbeFailureKind::AddressNotAllowed));
        let nobody = ApiTarget { host: "127.0.0.1".to_owned(), port: 1, path: "/", allow_private: true };
        let refused = status(&nobody, Duration::from_secs(2), Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(refused.kind, ProbeFailureKind::Refused);
    }
}
