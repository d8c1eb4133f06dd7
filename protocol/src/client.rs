//! The typed client of `/v1`.
