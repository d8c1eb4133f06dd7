//! From a name to addresses that may be connected to. The connection goes to an address that was checked here, and every
//! connection is checked anew: a name that answers otherwise the second time gets nothing by it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;

use super::address::{Special, special};

/// Asks for the addresses of a name.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses of `name`.
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Whether an address that is not public will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It will not.
    Public,
    /// The operator named this host, so it will, but never a metadata service.
    Named,
}

/// Checks all addresses of a name. One that is not public spoils all: an answer that mixes them is not an honest one.
pub fn check(addresses: &[IpAddr], port: u16, reach: Reach) -> Result<Vec<SocketAddr>, Special> {
    for ip in addresses {
        match (special(*ip), reach) {
            (None, _) => (),
            (Some(Special::Metadata), Reach::Named) => return Err(Special::Metadata),
            (Some(_), Reach::Named) => (),
            (Some(special), Reach::Public) => return Err(special),
        }
    }
    Ok(addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_that_is_not_public_spoils_all() {
        let addresses = |text: &str| text.split(' ').map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let check = |text: &str, reach| check(&addresses(text), 80, reach).map(|all| all.len());
        assert_eq!(check("1.1.1.1 2606:4700::1111", Reach::Public), Ok(2));
        assert_eq!(check("1.1.1.1 127.0.0.1", Reach::Public), Err(Special::Loopback));
        assert_eq!(check("1.1.1.1 127.0.0.1", Reach::Named), Ok(2));
        assert_eq!(check("10.0.0.1 169.254.169.254", Reach::Named), Err(Special::Metadata));
        assert_eq!(check("::ffff:169.254.169.254", Reach::Named), Err(Special::Metadata));
    }
}
