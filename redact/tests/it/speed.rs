//! How fast a request without secrets is let through. Ignored: a figure of an optimised build means something.

use redact::Redactor;
use secrecy::SecretString;

#[test]
#[ignore = "measures; run it with --release"]
fn a_large_request_is_searched_quickly() {
    let code = include_str!("property.rs");
    let message =
        serde_json::json!({ "role": "user", "content": [{ "type": "tool_result", "content": code }] });
    let messages: Vec<_> = (0..(32 << 20) / code.len()).map(|_| message.clone()).collect();
    let body = serde_json::to_vec(&serde_json::json!({ "messages": messages })).unwrap();
    for values in [0, 1, 8, 40] {
        let values: Vec<SecretString> =
            (0..values).map(|n| SecretString::from(format!("Zq{n}8xKj2vLw9TyRb4NcMd{n}7HgFs"))).collect();
        let redactor = Redactor::new(&values);
        let started = cpu_ns();
        assert!(redactor.mask_json_bytes(&body).is_none());
        let took = (cpu_ns() - started) as f64 / 1e9;
        let rate = body.len() as f64 / took / 1e6;
        println!("{} values: {rate:.0} MB/s over {} bytes", values.len(), body.len());
        assert!(rate > 100.0, "{rate:.0} MB/s");
    }
}

/// What this thread has had of a processor: others use the machine too.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
