//! Tests of the domain against what is written elsewhere.

mod guide;
