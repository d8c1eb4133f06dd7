//! Ports for programs that bind them later.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Linux gives ports from 32768 on to who names none, so nobody comes by one of these by chance.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;
/// Ports that one test process can have before it meets the next one's.
const EACH: u32 = 16;

/// A port of this machine that is free, for a program that listens there in a while. Each call gives another one.
pub fn for_later() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + std::process::id().wrapping_mul(EACH).wrapping_add(n) % COUNT;
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
