//! Whom a server on this machine alone answers: a browser can be made to ask it by pages from elsewhere.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};

use crate::error::Refusal;

/// The names under which a server is asked for.
#[derive(Debug)]
pub(crate) struct Guard {
    /// `None` of a server that other machines may ask: it cannot know its names.
    hosts: Option<Vec<String>>,
}

impl Guard {
    /// The guard of a server at this address. On a loopback address, a name that leads there from elsewhere (DNS rebinding) is refused.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let port = address.port();
        let names = || {
            let known = ["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}"));
            let mut hosts: Vec<String> = known.into_iter().chain([address.to_string()]).collect();
            if port == 80 {
                let without = |host: &String| host.trim_end_matches(":80").to_owned();
                hosts.extend(hosts.iter().map(without).collect::<Vec<_>>());
            }
            hosts
        };
        Self { hosts: address.ip().is_loopback().then(names) }
    }

    /// Refuses a request that came under another name, or from the page of another server.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let host = text(header::HOST).unwrap_or_default().to_ascii_lowercase();
        if self.hosts.as_ref().is_some_and(|hosts| !hosts.contains(&host)) {
            return Err(Refusal::Host(host));
        }
        match text(header::ORIGIN) {
            Some(origin)
                if origin.split_once("://").map(|(_, from)| from.to_ascii_lowercase()) != Some(host) =>
            {
                Err(Refusal::Origin(origin.into_owned()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn names_from_elsewhere_are_refused() {
        let check = |address: &str, host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            origin.map(|origin| headers.insert(header::ORIGIN, HeaderValue::from_static(origin)));
            Guard::new(address.parse().unwrap()).check(&headers).is_ok()
        };
        for host in ["localhost:8080", "LocalHost:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert!(check("127.0.0.1:8080", host, None), "{host}");
        }
        assert!(check("127.0.0.9:80", "127.0.0.9", None));
        for host in ["example.org:8080", "localhost", "localhost:8081", "localhost.example.org:8080", ""] {
            assert!(!check("127.0.0.1:8080", host, None), "{host}");
        }
        // Other machines know it by names of theirs.
        assert!(check("0.0.0.0:8080", "server.example.org:8080", Some("https://server.example.org:8080")));
        assert!(!check("0.0.0.0:8080", "server.example.org:8080", Some("http://example.org")));
        assert!(check("[::1]:8080", "localhost:8080", Some("http://localhost:8080")));
        for origin in ["http://example.org", "null", "http://localhost:8080.example.org"] {
            assert!(!check("127.0.0.1:8080", "localhost:8080", Some(origin)), "{origin}");
        }
    }
}
