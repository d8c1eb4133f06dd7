//! What this machine can enforce, asked from the kernel by doing it.

/// Whether a `sandbox` box can be had here; `Err` says what is missing and what to do.
pub fn sandbox() -> Result<(), String> {
    Err("not built yet".into())
}
