//! How fast a request without secrets is let through. Ignored: a figure of an optimised build means something.

use std::time::Instant;

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
        let started = Instant::now();
        assert_eq!(redactor.mask_json_bytes(&body), None);
        let took = started.elapsed().as_secs_f64();
        let rate = body.len() as f64 / took / 1e6;
        println!("{} values: {rate:.0} MB/s over {} bytes", values.len(), body.len());
        assert!(rate > 100.0, "{rate:.0} MB/s");
    }
}
