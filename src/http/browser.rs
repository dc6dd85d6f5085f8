//! Protection against web pages in a browser on the same machine, which may send requests to loopback addresses and,
//! by DNS rebinding, even read the answers: the name that the server is called by and the page's origin must be ours.
//!
//! This is no authentication: a program on the machine passes, by design.

use http::{HeaderMap, HeaderValue, Uri, header};
use std::net::IpAddr;
use std::sync::Arc;

/// Whether a host name or IP literal (IPv6 with or without brackets) can only mean this machine.
#[must_use]
pub fn is_loopback_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_lowercase();
    host == "localhost" || host.ends_with(".localhost") || literal(&host).is_some_and(|ip| ip.is_loopback())
}

/// What web pages may be and do here.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Any name will do: whoever calls has a token, which no rebound page knows.
    pub any_host: bool,
    /// Names beside loopback ones that the server may be called by, and whose pages may call; lower case.
    pub hosts: Arc<[String]>,
    /// Further origins whose pages may call: `https://app.example`.
    pub origins: Arc<[HeaderValue]>,
}

impl Pages {
    /// Why a request is refused, or `None` when it may pass.
    ///
    /// The host must be a loopback name, an IP literal (which no rebinding can forge) or an allowed name; the origin, where a
    /// browser states one, a loopback name, or allowed. Requests without a host come from no browser.
    #[must_use]
    pub fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
        let authority = uri.authority().map(|a| a.as_str());
        let hosts = headers.get_all(header::HOST).iter().map(|h| h.to_str().unwrap_or("?"));
        for host in authority.into_iter().chain(hosts).filter(|_| !self.any_host) {
            let name = without_port(host);
            if !(is_loopback_name(name) || literal(name).is_some() || is_allowed(name, &self.hosts)) {
                return Some(
                    "this host name is not one of the server's: call it by a loopback name or an IP address, or add the name to SERVER_ALLOWED_HOSTS",
                );
            }
        }
        for origin in headers.get_all(header::ORIGIN).iter().filter(|origin| !self.origins.contains(origin)) {
            let name = origin.to_str().ok().and_then(|o| o.strip_prefix("http://").or_else(|| o.strip_prefix("https://"))).map(without_port);
            if !name.is_some_and(|name| is_loopback_name(name) || is_allowed(name, &self.hosts)) {
                return Some("pages of this origin may not call the server: it would have to be added to SERVER_ALLOWED_ORIGINS");
            }
        }
        None
    }
}

fn is_allowed(name: &str, allowed: &[String]) -> bool {
    let name = name.trim_end_matches('.').to_lowercase();
    allowed.contains(&name)
}

/// `name:port` or `[ipv6]:port` without the port.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if host[at + 1..].bytes().all(|b| b.is_ascii_digit()) && (!host[..at].contains(':') || host[..at].ends_with(']')) => &host[..at],
        _ => host,
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        pages(false).refusal(&Uri::from_static("/health"), &headers).is_none()
    }

    fn pages(any_host: bool) -> Pages {
        Pages { any_host, hosts: Arc::from(["gpu.internal".to_owned()]), origins: Arc::from([HeaderValue::from_static("https://app.example:8443")]) }
    }

    #[test]
    fn hosts_and_origins() {
        for host in ["localhost", "LOCALHOST:8080", "app.localhost", "localhost.", "127.0.0.1:8080", "[::1]:8080", "10.0.0.5:80", "gpu.internal:8080"]
        {
            assert!(passes(host, None), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8080", "notlocalhost", "", "localhost@evil.example"] {
            assert!(!passes(host, None), "{host}");
        }
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173", "https://gpu.internal", "https://app.example:8443"] {
            assert!(passes("localhost", Some(origin)), "{origin}");
        }
        for origin in [
            "https://app.example",
            "http://app.example:8443",
            "null",
            "https://evil.example",
            "http://10.0.0.5",
            "localhost",
            "http://localhost.evil.example",
            "file://",
        ] {
            assert!(!passes("localhost", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn the_authority_of_http2_counts_as_well() {
        let refused = |uri: &'static str| pages(false).refusal(&Uri::from_static(uri), &HeaderMap::new()).is_some();
        assert!(refused("http://evil.example/health") && !refused("http://localhost:8080/health") && !refused("/health"));
    }

    #[test]
    fn with_tokens_any_name_will_do_but_not_any_page() {
        let (uri, mut headers) = (Uri::from_static("http://evil.example/health"), HeaderMap::new());
        assert_eq!(pages(true).refusal(&uri, &headers), None);
        headers.insert(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        assert!(pages(true).refusal(&uri, &headers).is_some());
    }
}
