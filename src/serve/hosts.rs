//! Which names the server answers to.
//!
//! A web page on another site can make a browser send requests to this server under that site's name, once the name resolves to
//! this machine (DNS rebinding). The page cannot use an address in place of the name, nor a name that nobody can register.

use std::net::{IpAddr, SocketAddr};

/// Ends of names that no registry gives out: RFC 6761, RFC 6762, ICANN's reservation of `internal`, and names inside of a
/// Kubernetes cluster.
const PRIVATE: [&str; 4] = [".localhost", ".local", ".internal", ".svc"];

/// The rule of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts {
    bound: IpAddr,
}

impl Hosts {
    pub(crate) fn new(bound: SocketAddr) -> Self {
        Self { bound: bound.ip() }
    }

    /// Whether a request for this host, with or without a port, is answered.
    ///
    /// A server on loopback answers to loopback's own names. One that others can reach also answers to addresses, which are those
    /// of this machine or of a proxy before it, and to names that are private.
    pub(crate) fn allows(&self, host: &str) -> bool {
        let Some(host) = without_port(host) else { return false };
        let host = host.to_ascii_lowercase();
        if host == "localhost" {
            return true;
        }
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        match literal.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || address == self.bound || !self.bound.is_loopback(),
            Err(_) => !self.bound.is_loopback() && is_private_name(&host),
        }
    }
}

/// The host of `host:port`; none if the port is not a number.
fn without_port(host: &str) -> Option<&str> {
    let end_of_address = host.rfind(']').map_or(0, |at| at + 1);
    match host.rfind(':').filter(|at| *at >= end_of_address) {
        None => Some(host),
        Some(at) => {
            let (host, port) = host.split_at(at);
            let is_port = port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
            is_port.then_some(host)
        }
    }
}

fn is_private_name(host: &str) -> bool {
    let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    is_name && (!host.contains('.') || PRIVATE.iter().any(|end| host.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use super::Hosts;

    fn allowed(bound: &str, hosts: &[&str]) -> Vec<bool> {
        let rule = Hosts::new(bound.parse().unwrap());
        hosts.iter().map(|host| rule.allows(host)).collect()
    }

    const FOREIGN: [&str; 15] = [
        "evil.example",
        "evil.example:9464",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:80:9464",
        "localhost:",
        "localhost:x",
        "localhost:99999",
        "[::1",
        "::1",
        "",
        ":9464",
        "local host",
        "127.0.0.1/x",
        "user@localhost",
    ];

    #[test]
    fn a_server_on_loopback_answers_to_loopback_alone() {
        let own = ["localhost", "LOCALHOST:9464", "127.0.0.1", "127.0.0.1:9464", "127.8.9.1:1", "[::1]", "[::1]:9464"];
        assert_eq!(allowed("127.0.0.1:9464", &own), [true; 7]);
        assert_eq!(allowed("[::1]:9464", &own), [true; 7]);
        assert_eq!(allowed("127.0.0.1:9464", &FOREIGN), [false; 15]);
        let others = ["10.1.2.3", "[fe80::1]:9464", "pagehaul", "pagehaul.local", "0.0.0.0"];
        assert_eq!(allowed("127.0.0.1:9464", &others), [false; 5]);
    }

    #[test]
    fn a_server_that_others_reach_answers_to_addresses_and_private_names_too() {
        let own = [
            "localhost:9464",
            "10.1.2.3:9464",
            "[fd00::7]:9464",
            "pagehaul:9464",
            "pagehaul_1",
            "pagehaul.jobs.svc:9464",
            "pagehaul.jobs.svc.cluster.local",
            "host.docker.internal:9464",
        ];
        for bound in ["0.0.0.0:9464", "[::]:9464", "10.1.2.3:9464"] {
            assert_eq!(allowed(bound, &own), [true; 8], "{bound}");
            assert_eq!(allowed(bound, &FOREIGN), [false; 15], "{bound}");
        }
    }
}
