#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(checked) = content::check(None, bytes)
        && let Some(clean) = checked.clean
    {
        let again = content::check(Some(checked.media), &clean).expect("what is stored instead is taken");
        assert!(again.clean.is_none());
    }
});
