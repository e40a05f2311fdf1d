//! Whom a server on this machine alone answers: a browser can be made to ask it by pages from elsewhere.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};

use crate::error::Refusal;

/// The names under which a server is asked for.
#[derive(Debug)]
pub(crate) struct Guard {
    /// `None` of a server that other machines may ask: it cannot know its names.
    hosts: Option<Vec<String>>,
}

impl Guard {
    /// The guard of a server at this address. On a loopback address, a name that leads there from elsewhere (DNS rebinding) is
    /// refused. The port may be any: it is that of whatever leads here, as `ssh -L`, and a page from elsewhere has a name from
    /// elsewhere whichever port it chooses.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let own = match address.ip() {
            IpAddr::V4(own) => own.to_string(),
            IpAddr::V6(own) => format!("[{own}]"),
        };
        let names = || ["localhost", "127.0.0.1", "[::1]", &own].map(str::to_owned).to_vec();
        Self { hosts: address.ip().is_loopback().then(names) }
    }

    /// Tells whether a host, with or without a port, is one of the names.
    fn knows(&self, host: &str) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        hosts.iter().filter_map(|own| host.strip_prefix(&**own)).any(|rest| match rest.strip_prefix(':') {
            Some(port) => port.parse::<u16>().is_ok(),
            None => rest.is_empty(),
        })
    }

    /// Refuses a request that came under another name, or from the page of another server.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let host = text(header::HOST).unwrap_or_default().to_ascii_lowercase();
        if !self.knows(&host) {
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
        // Whatever port leads here from another machine of the user's.
        for host in ["localhost:8080", "LocalHost:9000", "127.0.0.1:8080", "[::1]:8080", "localhost", "[::1]"]
        {
            assert!(check("127.0.0.1:8080", host, None), "{host}");
        }
        assert!(check("127.0.0.9:80", "127.0.0.9", None));
        let foreign = [
            "example.org:8080",
            "example.org",
            "localhost.example.org:8080",
            "localhost.",
            "127.0.0.1.example.org",
            "",
        ];
        let broken = [
            "localhost:",
            "localhost:x",
            "localhost:80@example.org",
            "127.0.0.10:8080",
            "[::1",
            "xlocalhost",
        ];
        for host in foreign.into_iter().chain(broken) {
            assert!(!check("127.0.0.1:8080", host, None), "{host}");
        }
        // Other machines know it by names of theirs.
        assert!(check("0.0.0.0:8080", "server.example.org:8080", Some("https://server.example.org:8080")));
        assert!(!check("0.0.0.0:8080", "server.example.org:8080", Some("http://example.org")));
        assert!(check("[::1]:8080", "localhost:8080", Some("http://localhost:8080")));
        assert!(check("127.0.0.1:8080", "localhost:9000", Some("http://localhost:9000")));
        for origin in
            ["http://example.org", "null", "http://localhost:8080.example.org", "http://localhost:9000"]
        {
            assert!(!check("127.0.0.1:8080", "localhost:8080", Some(origin)), "{origin}");
        }
    }
}
