//! How fast texts are searched: a request without secrets, and texts made to take long.

use redact::Redactor;
use secrecy::SecretString;

#[test]
#[ignore = "a figure of an optimised build means something; run it with --release"]
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

#[test]
fn no_text_takes_longer_than_its_length_deserves() {
    let value = SecretString::from("aaaaaaaa-secret-aaaaaaaa".to_owned());
    let redactor = Redactor::new(&[value]);
    let long = "a1B2c3D4".repeat(2_000);
    for piece in [
        "ghp_",
        "eyJ",
        ".eyJ",
        "eyJa1B2c3D4e5F6.",
        "a://",
        "a://u:p@",
        "Bearer ",
        "Bearer a1B2c3D4e5F6g7H8 ",
        "Basic ",
        "...",
        "-----BEGIN PRIVATE KEY-----",
        "-----END",
        "AccountKey=",
        "_password=a1B2c3D4e5F6",
        "sk-",
        "SG.",
        "a",
        "aaaaaaaa-secret-",
        "\n",
        "aaaaaaaa-secret-aaaaaaaa",
        "hf_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6 ",
        &long,
    ] {
        let text = piece.repeat((1 << 19) / piece.len());
        let started = cpu_ns();
        let masked = redactor.mask(&text);
        assert_eq!(redactor.mask_preview(&text), masked);
        let mut stream = redactor.stream();
        let pieces: String =
            text.as_bytes().chunks(4_093).map(|c| stream.push(std::str::from_utf8(c).unwrap())).collect();
        assert_eq!(pieces + &stream.finish(), masked);
        let took = (cpu_ns() - started) / 1_000_000;
        assert!(took < 3_000, "{took} ms for {:?}", &piece[..piece.len().min(40)]);
    }
}

/// What this thread has had of a processor: others use the machine too.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
