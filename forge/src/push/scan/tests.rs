use super::*;

fn key(n: u32) -> String {
    format!("AKIA{}{n:02}", "Z3XQ7M2PL5VKR4")
}

fn found(content: &str, before: &[&str]) -> Vec<usize> {
    let before: Vec<&[u8]> = before.iter().map(|b| b.as_bytes()).collect();
    added(content.as_bytes(), &before, &Redactor::default()).into_iter().map(|f| f.line).collect()
}

#[test]
fn only_what_was_added_counts() {
    let (one, two) = (key(1), key(2));
    assert_eq!(found(&format!("a\nk = {one}\n"), &[]), [2]);
    assert_eq!(found(&format!("b\nk = {one}\n"), &[&format!("k = {one}\r\n")]), Vec::<usize>::new(), "moved");
    assert_eq!(found(&format!("k = {one}\nl = {two}\n"), &[&format!("k = {one}\n")]), [2]);
    assert_eq!(found(&format!("k = {one} # same key\n"), &[&format!("k = {one}\n")]), [1], "the line is new");
    let either = [format!("k = {one}\n"), format!("l = {two}\n")];
    let merged = either.concat();
    assert_eq!(found(&merged, &[&either[0], &either[1]]), Vec::<usize>::new(), "each parent has one");
}

#[test]
fn a_key_that_was_exchanged_is_found_though_its_first_line_stayed() {
    let pem = |body: &str| {
        let first = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        format!("-----BEGIN PRIVATE KEY-----\n{first}\n{body}\n-----END PRIVATE KEY-----\n")
    };
    let (old, new) = (
        "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3fxK3q5T6k0D2mJ8nXr1lWv9ZcQpHs7Y+u",
        "Kx9dLq2Wn5Rj8Tz1Vb4Yc7Gf3Hs6Mp0Eo+Ua/Ik9Xw2Qv5Nt8Br1Cl4Dy7Zj3Fg",
    );
    assert_eq!(found(&pem(old), &[&pem(old)]), Vec::<usize>::new());
    assert_eq!(found(&pem(new), &[&pem(old)]), [1]);
}

#[test]
fn wide_characters_are_read() {
    let wide: Vec<u8> = format!("x\nk={}\n", key(7)).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let found = added(&wide, &[], &Redactor::default());
    assert_eq!(found.iter().map(|f| (f.kind, f.line)).collect::<Vec<_>>(), [("an AWS access key", 2)]);
}

#[test]
fn a_configured_value_is_found() {
    let redactor = Redactor::new(&["correct horse battery".into()]);
    assert_eq!(added(b"pass = correct horse battery\n", &[], &redactor).len(), 1);
    assert_eq!(added(b"pass = correct horse battery\n", &[], &Redactor::default()), []);
}

#[test]
fn large_files_that_are_no_text_are_left_alone() {
    let mut large = vec![0; BINARY_MAX + 1];
    large.extend_from_slice(key(1).as_bytes());
    assert_eq!(added(&large, &[], &Redactor::default()), []);
}
