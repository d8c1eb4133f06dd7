//! How often somebody may come with a credential that is not good: a bucket for each address, in bounded memory. Only what
//! failed is counted, so a good credential is never kept out by what others, or its own holder, got wrong.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::{Rate, depth, take};
use crate::peer::neighbourhood;

/// Addresses that have a bucket of their own. All beyond share one: whoever has that many is one caller.
const ADDRESSES_MAX: usize = 10_000;

/// The buckets of those who are not known.
#[derive(Debug)]
pub struct Strangers {
    rate: Rate,
    /// When each bucket is full again, nanoseconds since 1970; the one without an address is shared.
    full_at: Mutex<HashMap<Option<IpAddr>, i128>>,
}

impl Strangers {
    /// All buckets full.
    pub fn new(rate: Rate) -> Strangers {
        Strangers { rate, full_at: Mutex::default() }
    }

    /// Takes one failed try out of the bucket of `from`; `Err` says how long to wait before the next is worth it.
    pub fn failed(&self, from: IpAddr, now: Timestamp) -> Result<(), Duration> {
        if self.rate.per_minute == 0 {
            return Ok(());
        }
        let (now, mut address) = (now.as_nanosecond(), Some(neighbourhood(from)));
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= ADDRESSES_MAX && !full_at.contains_key(&address) {
            // A full bucket is as good as none.
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= ADDRESSES_MAX {
                address = None;
            }
        }
        let bucket = full_at.entry(address).or_insert(now);
        // A clock that was set back must not keep anybody out for longer than an empty bucket does.
        *bucket = (*bucket).clamp(now, now + depth(self.rate));
        *bucket = take(*bucket, now, self.rate)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + s).unwrap()
    }

    #[test]
    fn each_address_has_its_own_tries() {
        let strangers = Strangers::new(Rate { per_minute: 60, burst: 2 });
        let failed = |from: &str, s| strangers.failed(from.parse().unwrap(), at(s));
        assert_eq!([failed("192.0.2.1", 0), failed("192.0.2.1", 0)], [Ok(()); 2]);
        assert_eq!(failed("192.0.2.1", 0), Err(Duration::from_secs(1)));
        assert_eq!(failed("192.0.2.2", 0), Ok(()));
        assert_eq!(failed("192.0.2.1", 1), Ok(()));
        // Whoever has one address of a network has them all.
        assert_eq!([failed("2001:db8::1", 0), failed("2001:db8::2", 0)], [Ok(()); 2]);
        assert!(failed("2001:db8::3", 0).is_err());
        let off = Strangers::new(Rate { per_minute: 0, burst: 1 });
        assert!((0..100).all(|_| off.failed("192.0.2.1".parse().unwrap(), at(0)).is_ok()));
    }

    #[test]
    fn memory_is_bounded_however_many_addresses_come() {
        let strangers = Strangers::new(Rate { per_minute: 1, burst: 3 });
        let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        for n in 0..2 * ADDRESSES_MAX as u32 {
            let _ = strangers.failed(address(n), at(0));
        }
        assert_eq!(strangers.full_at.lock().unwrap().len(), ADDRESSES_MAX + 1);
        assert!(strangers.failed(address(u32::MAX), at(0)).is_err(), "the rest share one bucket");
        assert!(strangers.failed(address(1), at(0)).is_ok(), "who was known before has their own");
        strangers.failed(address(u32::MAX), at(600)).unwrap();
        assert_eq!(strangers.full_at.lock().unwrap().len(), 1, "full ones were dropped");
    }
}
